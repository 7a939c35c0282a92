"""A page of a pack that needs no server: the model, and what else the pack computes, run in the visitor's browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any, Protocol

from tinyslm.core.npm import Package

if TYPE_CHECKING:
    from tinyslm.tokenizer.tokenizer import Tokenizer


class OpenPage(Protocol):
    """A page in a browser."""

    def run(self, function: str, seconds: float, *arguments: Any) -> Any:
        """Call a JavaScript function of the page with JSON values, and wait for its value."""


class PageFault(Exception):
    """What a page does wrong, in words."""


@dataclass(frozen=True)
class BrowserPage:
    """Static files for `page/NAME`, beside those of the bundle "page", whose modules they import.

    folders: the files, with `index.html`; one of a later folder takes the place of one with the same name. changes:
    what stands once in the document, and what takes its place. packages: programs from npm. files: further files, by
    their paths below `page`. check: uses the open page, whose model has this tokenizer; gives what was tried and what
    came of it, in words, and raises `PageFault` if it does not work.
    """

    folders: Sequence[Traversable]
    changes: Mapping[str, str]
    packages: Sequence[Package]
    files: Mapping[str, bytes]
    check: Callable[[OpenPage, Tokenizer], Mapping[str, str]]

    def static_files(self) -> dict[str, bytes]:
        """The contents of the folders, by their names."""
        return {file.name: file.read_bytes() for folder in self.folders for file in folder.iterdir() if file.is_file()}
