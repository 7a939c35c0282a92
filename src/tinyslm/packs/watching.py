"""Watch a folder with a pack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tinyslm.batch.prompts import PromptTemplate
from tinyslm.batch.watch import Follower
from tinyslm.core.errors import TinyslmError
from tinyslm.core.registry import Registry

Watching = Callable[[Path], tuple[PromptTemplate, Follower]]
"""How files are asked about, and what follows from the answers, in a folder of results."""
WATCHING: Registry[Watching] = Registry("pack that watches a folder")


def watching_of(name: str, out: Path, given: PromptTemplate) -> tuple[PromptTemplate, Follower]:
    """The `Watching` of a pack in the folder `out`.

    given: the user's template. Raises `TinyslmError` for packs that watch nothing, and if it says what is asked.
    """
    found = WATCHING[name]
    if given.template or given.column or given.system or given.constraint:
        raise TinyslmError("A pack says itself what is asked.", "Leave out --template, --system and constraints.")
    return found(out)
