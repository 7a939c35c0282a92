"""Compiled grammars of one model, kept for the next request that asks for the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from tinyslm.inference.vetting import untrusted_grammars

if TYPE_CHECKING:
    from tinyslm.inference.grammar import Grammar

MOST = 64


class NewGrammar(Exception):
    """A grammar is not in the cache: call `compile` in a thread that may take its time, then ask again."""

    def __init__(self, compile_it: Callable[[], object]) -> None:
        super().__init__("the grammar is not in the cache")
        self.compile = compile_it


class Grammars:
    """The grammars used last; safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Grammar | None] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str, compiled: Callable[[], Grammar | None]) -> Grammar | None:
        """The grammar cached under `key`; otherwise raises `NewGrammar`, which caches the result of `compiled`."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        raise NewGrammar(lambda: self._make(key, compiled))

    def _make(self, key: str, compiled: Callable[[], Grammar | None]) -> None:
        with self._lock:
            if key in self._kept:  # another request was faster
                return
        with untrusted_grammars():
            made = compiled()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
