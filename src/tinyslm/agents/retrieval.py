"""Search for passages in a folder of notes: BM25 over pieces of text files, without a network or a model.

Scores are Lucene's variant of BM25, computed by bm25s (https://github.com/xhluca/bm25s).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.tools.files import read_text
from tinyslm.inference.tools.folder import SafeFolder
from tinyslm.inference.tools.tool import Tool, ToolError

ENDINGS = (".md", ".txt", ".rst", ".org", ".adoc", ".csv", ".log")
MOST_CHARACTERS = 50_000_000  # of all notes together
LINES = 12  # of a passage, at most
MOST_PASSAGES = 10  # passages returned at once
CHARACTERS = 1_000  # of a passage, unless a single line has more

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Passage:
    """A piece of a file, the number of its first line, and its score for the question (higher is better)."""

    file: str
    line: int
    text: str
    score: float = 0.0


class Notes:
    """Passages that can be searched."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        import bm25s

        self.passages = list(passages)
        self._index = bm25s.BM25(k1=1.2, b=0.75, method="lucene")
        documents = [words(f"{Path(one.file).stem} {one.text}") or [""] for one in self.passages]
        self._index.index(documents or [[""]], show_progress=False)

    @classmethod
    def read(cls, folder: str | Path) -> Notes:
        """The notes below a folder: its text files, by their endings (`ENDINGS`), except hidden ones and links.

        Raises `TinyslmError` where there is no folder, or no note in it.
        """
        notes = cls([passage for path, text in read_notes(folder) for passage in passages(path, text)])
        if not notes.passages:
            raise TinyslmError(f"{folder} holds no notes.", f"Put text files there: {', '.join(ENDINGS)}.")
        return notes

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> Notes:
        """The notes in texts by name."""
        return cls([passage for name, text in texts.items() for passage in passages(name, text)])

    def search(self, question: str, count: int = 3) -> list[Passage]:
        """The `count` passages that fit a question best, the best one first; none without a word of the question."""
        known = sorted(set(words(question)) & self._index.vocab_dict.keys())
        if not known:
            return []
        scores = self._index.get_scores(known)
        best = np.argsort(-scores, kind="stable")[:count]
        return [replace(self.passages[number], score=float(scores[number])) for number in best if scores[number] > 0]


def words(text: str) -> list[str]:
    """Lower-case words without accents; a plural's "s" is dropped, so that "prices" finds "price"."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(one))
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in _WORD.findall(plain)
    ]


def read_notes(folder: str | Path) -> Iterator[tuple[str, str]]:
    """Path and text of each note below a folder, in order; files that are not text are skipped."""
    inside = SafeFolder(folder)
    total = 0
    for entry in inside.walk():
        if not entry.path.lower().endswith(ENDINGS):
            continue
        try:
            text = read_text(inside, entry.path)
        except ToolError:
            continue
        total += len(text)
        if total > MOST_CHARACTERS:
            raise TinyslmError(f"The notes below {folder} are too many to search.", "Name a smaller folder.")
        yield entry.path, text


def passages(file: str, text: str) -> Iterator[Passage]:
    """A text in pieces of a few lines, split before headings, at empty lines, and where a piece grows too long.

    Each piece of a section begins with the section's heading, whose words describe all of it.
    """
    for heading, section in _sections(text.splitlines()):
        piece: list[str] = []
        first = 0
        for number, line in section:
            room = CHARACTERS - sum(map(len, piece)) - len(line)
            if piece and (len(piece) >= LINES or room < 0 or (not line and len(piece) >= LINES // 2)):
                yield _passage(file, first, heading, piece)
                piece = []
            if line or piece:
                first = first if piece else number
                piece.append(line)
        if piece:
            yield _passage(file, first, heading, piece)


def _passage(file: str, line: int, heading: str, piece: Sequence[str]) -> Passage:
    return Passage(file, line, "\n".join([heading, *piece] if heading else piece).strip())


def _sections(lines: Iterable[str]) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Headings ("" before the first one), each with the numbered lines below it; a heading without any is a line."""
    heading, at = "", 0
    section: list[tuple[int, str]] = []
    for number, line in enumerate([*lines, "#"], 1):
        if not line.startswith("#"):
            section.append((number, line.strip()))
            continue
        if any(text for _, text in section):
            yield heading, section
        elif heading:
            yield "", [(at, heading)]
        heading, at, section = line.strip(), number, []


def retrieve_tool(folder: str | Path) -> Tool:
    """`search_notes` over the text files below `folder`, read once, now.

    Raises `TinyslmError` where there is no folder, or no note in it.
    """
    notes = Notes.read(folder)

    def search_notes(question: str, count: Annotated[int, Field(ge=1, le=MOST_PASSAGES)] = 3) -> str:
        """Find the passages of the notes that fit a question best.

        Args:
            question: the question, in words that the notes may use.
            count: how many passages to return.
        """
        found = notes.search(question, count)
        return "\n\n".join(f"[{one.file}:{one.line}]\n{one.text}" for one in found) or "Nothing found."

    return Tool.from_function(search_notes)
