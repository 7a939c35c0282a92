"""Compiled grammars of one model, kept for the next request that asks for the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyslm.inference.grammar import Grammar

MOST = 64


class Grammars:
    """The grammars used last; safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Grammar | None] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str, compiled: Callable[[], Grammar | None]) -> Grammar | None:
        """The grammar that is kept under `key`, or else what `compiled` gives."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = compiled()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
        return made
