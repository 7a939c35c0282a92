"""Chapters: values in a registry, each a page made from the reader's model."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from tinyslm.core.page import Block
from tinyslm.core.registry import Registry
from tinyslm.course.subject import Subject


@dataclass(frozen=True)
class Chapter:
    """One page of the course.

    title, about: its heading, and one sentence for the table of contents. blocks: makes its content. scripts, styles:
    files of `course/static` for the widgets among its blocks (`course.js` and `course.css` are always there).
    """

    title: str
    about: str
    blocks: Callable[[Subject], Sequence[Block]]
    scripts: Sequence[str] = ()
    styles: Sequence[str] = ()


def stored_data(name: str) -> dict[str, Any]:
    """The content of a JSON file of `course/data`."""
    stored: dict[str, Any] = json.loads((files("tinyslm.course") / "data" / name).read_text("utf-8"))
    return stored


CHAPTERS: Registry[Chapter] = Registry("chapter")
"""By the name of their file, in the order in which they are read."""
