"""Watch a folder with a pack."""

from __future__ import annotations

from pathlib import Path

from tinyslm.batch.prompts import PromptTemplate
from tinyslm.batch.watch import Follower
from tinyslm.core.errors import TinyslmError
from tinyslm.core.plugins import load_plugins
from tinyslm.packs import PACKS


def watching_of(name: str, out: Path, given: PromptTemplate) -> tuple[PromptTemplate, Follower]:
    """How a pack asks about files, and what follows from the answers, in the folder `out`.

    given: the user's template. Raises `TinyslmError` for packs that watch nothing, and if it says what is asked.
    """
    load_plugins()
    pack = PACKS[name]
    if pack.watch is None:
        watching = [one for one in PACKS if PACKS[one].watch is not None]
        raise TinyslmError(f"The pack {name} watches no folder.", f"Those that do: {', '.join(watching)}.")
    if given.template or given.column or given.system or given.constraint:
        raise TinyslmError("A pack says itself what is asked.", "Leave out --template, --system and constraints.")
    return pack.watch(out)
