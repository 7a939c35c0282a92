"""Documents, the units in which text is read, cleaned, compared and split, and tallies of incidents.

A long document is a series of pieces of about 1 MB with the same `source`, of which only the last one has `last` set.
So memory limits no text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tinyslm.core.errors import TinyslmError

PIECE = 1 << 20  # bytes

Notify = Callable[[str], None]
Progress = Callable[[str, int, int], None]


def silent(*_: object) -> None:
    """A callback that does nothing."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document, or a piece of one. `source` names it: `notes/a.txt`, `rows.jsonl:12`."""

    text: str
    source: str
    last: bool = True


EXAMPLES = 5  # places in a warning
READ_AS = "read_as_"  # prefix of an encoding: this kind of incident counts files with this guessed encoding

# The warning for each kind of incident, for one and for `{}` of them. Other kinds are only counted.
_WARNINGS = {
    "unused_exclude": ("1 pattern of --exclude matches nothing", "{} patterns of --exclude match nothing"),
    "broken_links": ("1 link leads to nothing", "{} links lead to nothing"),
    "unreadable_folders": (
        "1 folder could not be read and was skipped",
        "{} folders could not be read and were skipped",
    ),
    "unreadable_files": ("1 file could not be read and was skipped", "{} files could not be read and were skipped"),
    "damaged_files": (
        "1 file is damaged; only what precedes the damage was read",
        "{} files are damaged; only what precedes the damage was read",
    ),
    "binary_files": ("1 file that is not text was skipped", "{} files that are not text were skipped"),
    "empty_files": ("1 file is empty", "{} files are empty"),
    "undecodable_files": (
        "1 file is in no known encoding and was skipped (name it: --data.encoding)",
        "{} files are in no known encoding and were skipped (name it: --data.encoding)",
    ),
    "undecodable_bytes": (
        "1 sequence of bytes could not be decoded and became U+FFFD",
        "{} sequences of bytes could not be decoded and became U+FFFD",
    ),
    "utf8_files": (
        "1 file is UTF-8 and was read as such, in spite of --data.encoding",
        "{} files are UTF-8 and were read as such, in spite of --data.encoding",
    ),
    "invalid_utf8": (
        "1 text held bytes that are not UTF-8, which became U+FFFD",
        "{} texts held bytes that are not UTF-8, which became U+FFFD",
    ),
    "broken_lines": (
        "1 line that is not a JSON object was skipped",
        "{} lines that are not JSON objects were skipped",
    ),
    "json_as_text": (
        "1 .json file holds no records and was read as text",
        "{} .json files hold no records and were read as text",
    ),
    "complex_records": (
        "1 record of more than 2,000,000 values was skipped",
        "{} records of more than 2,000,000 values were skipped",
    ),
    "message_parts": (
        "1 part of a message that is not text was left out",
        "{} parts of messages that are not text were left out",
    ),
    "rows_without_text": ("1 row without a text was skipped", "{} rows without a text were skipped"),
    "guessed_columns": (
        "1 table has no column with a usual name for text; its longest prose was taken",
        "{} tables have no column with a usual name for text; their longest prose was taken",
    ),
    "named_rows": (
        "1 table has one more column than its header names; the first one was taken for row names",
        "{} tables have one more column than their headers name; the first one was taken for row names",
    ),
    "title_lines": (
        "1 table has lines above its header, which were skipped",
        "{} tables have lines above their headers, which were skipped",
    ),
    "unclosed_quotes": (
        "1 row with a quote that is opened but not closed was skipped",
        "{} rows with a quote that is opened but not closed were skipped",
    ),
    "uneven_rows": (
        "1 row with more cells than the header was skipped",
        "{} rows with more cells than the header were skipped",
    ),
    "short_rows": (
        "1 row has fewer cells than the header; the cells that it has were read",
        "{} rows have fewer cells than the header; the cells that they have were read",
    ),
    "long_records": (
        "1 record longer than --data.max_record_bytes was skipped",
        "{} records longer than --data.max_record_bytes were skipped",
    ),
    "reduced_pages": (
        "1 HTML page was reduced to its main text",
        "{} HTML pages were reduced to their main text",
    ),
}


@dataclass(slots=True)
class Tally:
    """Counts incidents by kind, and stores the first places of each kind."""

    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, place: str, number: int = 1) -> None:
        """Count `number` incidents of this kind at one place."""
        self.counts[kind] += number
        places = self.places.setdefault(kind, [])
        if len(places) < EXAMPLES:
            places.append(place)

    def merge(self, other: Tally) -> None:
        """Add the counts and places of `other`."""
        self.counts.update(other.counts)
        for kind, places in other.places.items():
            self.places[kind] = [*self.places.get(kind, []), *places][:EXAMPLES]

    def warnings(self) -> Iterator[str]:
        """Yield a sentence for each kind of incident that has a warning."""
        read_as = {
            kind: (f"1 file is not UTF-8; read as {name}", f"{{}} files are not UTF-8; read as {name}")
            for kind in sorted(self.counts)
            if (name := kind.removeprefix(READ_AS)) != kind
        }
        for kind, (one, several) in {**read_as, **_WARNINGS}.items():
            if number := self.counts[kind]:
                more = ", ..." if number > len(self.places[kind]) else ""
                yield f"{one if number == 1 else several.format(number)}: {', '.join(self.places[kind])}{more}."


class Stream(Protocol):
    """A file, an archive member or standard input."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes; empty at the end."""


def pieces_of_stream(stream: Stream) -> Iterator[tuple[bytes, bool]]:
    """Cut a stream into pieces of at most `PIECE` bytes: (piece, whether it is the last)."""
    buffer = b""
    while block := stream.read(PIECE):
        buffer += block
        while len(buffer) > PIECE:
            end = _end_of_piece(buffer)
            yield buffer[:end], False
            buffer = buffer[end:]
    yield buffer, True


def pieces_of_text(text: str) -> Iterator[tuple[str, bool]]:
    """Cut a text into pieces of at most `PIECE` bytes of UTF-8: (piece, whether it is the last)."""
    if len(text) * 4 <= PIECE or (len(text) <= PIECE and text.isascii()):
        yield text, True
        return
    for piece, last in pieces_of_stream(_TextStream(text)):
        yield piece.decode(), last


class _TextStream:
    """A text as a stream of UTF-8, encoded in small parts."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes of whole characters; empty at the end."""
        start = self._position
        self._position += size // 4  # a character takes at most four bytes
        return self._text[start : self._position].encode()


def _end_of_piece(data: bytes) -> int:
    """The position to cut `data`: after a blank line in the second half of the piece, a newline, or a character."""
    blank = data.rfind(b"\n\n", PIECE // 2, PIECE)
    if blank > 0:
        return blank + 2
    newline = data.rfind(b"\n", 0, PIECE)
    if newline >= 0:
        return newline + 1
    end = PIECE - 1 if data[PIECE - 1] == ord("\r") else PIECE
    for back in range(4):  # a character has at most four bytes
        if data[end - back] & 0xC0 != 0x80:
            return end - back
    return end


def nothing_to_read(paths: Sequence[str], counts: Iterable[tuple[str, int]]) -> TinyslmError:
    """The error for paths that contain no text, with the counts of incidents."""
    incidents = ", ".join(f"{kind.replace('_', ' ')}: {number}" for kind, number in counts if number)
    return TinyslmError(
        f"No text was found in {', '.join(paths)} ({incidents or 'everything is empty'}).",
        "Give files with text: .txt, .md, source code, .html, .jsonl, .csv or .parquet, also as .gz or .zst.",
    )
