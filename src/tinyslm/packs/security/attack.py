"""The matrix of MITRE ATT&CK: the ids, names and tactics of its techniques. `techniques.json` states its licence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

NONE = "none"
"""The answer for events that are no attack."""
ID = re.compile(r"\bT\d{4}(?:\.\d{3})?\b")


@dataclass(frozen=True)
class Technique:
    """A technique, or a sub-technique, whose id has a dot."""

    id: str
    name: str
    tactics: tuple[str, ...]

    @property
    def text(self) -> str:
        """As it is answered."""
        return f"{self.id} {self.name}"


@cache
def techniques() -> Mapping[str, Technique]:
    """All techniques by id."""
    read = json.loads((files(__package__) / "techniques.json").read_text(encoding="utf-8"))
    return {id_: Technique(id_, name, tuple(tactics)) for id_, (name, *tactics) in read["techniques"].items()}


def label(id_: str) -> str:
    """The answer for an id, or for `NONE`."""
    return NONE if id_ == NONE else techniques()[id_].text


def parent(id_: str) -> str:
    """The technique of a sub-technique; the same id for others."""
    return id_.partition(".")[0]
