"""Find the column of a table that holds the text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.data.documents import Tally

TEXT_COLUMNS = ("text", "content", "body", "document", "story", "article", "passage", "markdown", "code")
LISTED = 20  # names in a message
_ROWS = 200  # rows in the sample
_SHORTEST = 20  # minimum mean length of prose, in characters
_NO_NAME = re.compile(r"(unnamed: *\d+)?", re.IGNORECASE)


def find_column(
    columns: Sequence[str], wanted: str, place: str, sample: Iterable[Sequence[Any]] = (), tally: Tally | None = None
) -> str:
    """The column that holds the text: `wanted`, else the first with a usual name, else the one with the longest prose.

    sample: rows with a value for each column, read only if no column has a usual name. tally: counts a choice by prose.
    Columns without a name are not considered. Raises `TinyslmError`, which lists the columns, if none is found.
    """
    if wanted:
        if wanted in columns:
            return wanted
        missing = f'no column "{wanted}"'
    else:
        by_name = {column.strip().lower(): column for column in reversed(columns)}
        for name in TEXT_COLUMNS:
            if name in by_name:
                return by_name[name]
        if guessed := _longest_prose(columns, sample):
            if tally:
                tally.add("guessed_columns", f"{place} ({guessed})")
            return guessed
        missing = "no column that is known to hold text"
    suggestion = did_you_mean(wanted, columns) if wanted else ""
    raise TinyslmError(
        f"{place} has {missing}; its columns: {_listed(columns)}.",
        "Name the one that holds the text: --data.text_column NAME"
        + (f" ({suggestion})" if suggestion.startswith("Did") else ""),
    )


def _listed(columns: Sequence[str]) -> str:
    named = [column for column in columns if column]
    more = f" and {len(named) - LISTED} more" if len(named) > LISTED else ""
    return ", ".join(named[:LISTED]) + more if named else "none with a name"


def _longest_prose(columns: Sequence[str], sample: Iterable[Sequence[Any]]) -> str:
    """The column with the longest prose; "" if no column has any."""
    rows = list(islice(sample, _ROWS))
    lengths = {
        column: length
        for number, column in enumerate(columns)
        if not _NO_NAME.fullmatch(column)
        and (length := _prose([row[number] for row in rows if len(row) > number])) >= _SHORTEST
    }
    return max(lengths, key=lengths.__getitem__) if lengths else ""


def _prose(values: list[Any]) -> float:
    """Mean length of the values if they are prose (mostly distinct, several words, mostly letters), else 0."""
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    whole = " ".join(texts)
    letters = sum(character.isalpha() for character in whole)
    words = len(whole.split()) if whole.isascii() else max(len(whole.split()), sum(map(str.isalpha, whole)) // 4)
    if len(texts) * 2 < len(values) or len(set(texts)) * 2 < len(texts) or letters < 0.6 * len(whole):
        return 0.0
    return len(whole) / len(texts) if texts and words >= 3 * len(texts) else 0.0
