"""Finding passages in a folder of notes: BM25 over pieces of text files, all of it local.

Scores are those of Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), equation
3.15, with the non-negative inverse document frequency ln(1 + (n - d + 0.5) / (d + 0.5)).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyslm.agents.folder import SafeFolder
from tinyslm.agents.tool import ToolError
from tinyslm.agents.tools.files import read_text
from tinyslm.core.errors import TinyslmError

ENDINGS = (".md", ".txt", ".rst", ".org", ".adoc", ".csv", ".log")
MOST_CHARACTERS = 50_000_000  # of all notes together
LINES = 12  # of a passage, at most
CHARACTERS = 1_000  # of a passage, unless a single line has more

_K1, _B = 1.2, 0.75
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Passage:
    """A piece of a file, with the number of its first line, and how well it fits the question (more is better)."""

    file: str
    line: int
    text: str
    score: float = 0.0


class Notes:
    """Passages that can be searched."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = list(passages)
        counts = [Counter(words(f"{Path(one.file).stem} {one.text}")) for one in self.passages]
        self._lengths = [counted.total() for counted in counts]
        self._mean = sum(self._lengths) / max(1, len(counts)) or 1.0
        self._places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, counted in enumerate(counts):
            for word, count in counted.items():
                self._places[word].append((number, count))

    @classmethod
    def read(cls, folder: str | Path) -> Notes:
        """The notes below a folder: its text files by their endings (`ENDINGS`); hidden ones and links are left out.

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
        """The passages that fit a question best, the best one first; none that shares no word with it."""
        scores: dict[int, float] = defaultdict(float)
        for word in set(words(question)):
            places = self._places.get(word, [])
            rarity = math.log1p((len(self.passages) - len(places) + 0.5) / (len(places) + 0.5))
            for number, times in places:
                length = 1 - _B + _B * self._lengths[number] / self._mean
                scores[number] += rarity * times * (_K1 + 1) / (times + _K1 * length)
        best = sorted(scores, key=lambda number: (-scores[number], number))[:count]
        return [
            Passage(one.file, one.line, one.text, scores[number])
            for number, one in ((number, self.passages[number]) for number in best)
        ]


def words(text: str) -> list[str]:
    """Words in small letters, without accents; a plural's "s" is dropped, so that "prices" finds "price"."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(one))
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in _WORD.findall(plain)
    ]


def read_notes(folder: str | Path) -> Iterator[tuple[str, str]]:
    """Path and text of each note below a folder, in order; files that are no text are passed over."""
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
    """A text in pieces of a few lines: cut before headings, at empty lines, and where one grows too long.

    A heading stands at the top of each piece of its section, as its words are about all of it.
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
    """Headings ("" before the first one), each with the numbered lines below it; one with nothing below is a line."""
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
