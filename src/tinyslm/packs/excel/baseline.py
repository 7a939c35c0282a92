"""What a program without a model answers: the nearest training request's formula, with headers and values exchanged."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tinyslm.packs.excel.formulas import CANNOT, with_commas, with_semicolons
from tinyslm.packs.excel.sheets import Sheet, letter_of
from tinyslm.packs.pack import Answerer, Row, question_of


def nearest_formula(rows: Sequence[Row]) -> Answerer:
    """Finds the training request with the most similar words (BM25)."""
    import bm25s

    learned = [row for row in rows if row["skill"] != "explain"]
    index = bm25s.BM25()
    words = [_words(row) for row in learned]
    index.index(bm25s.tokenize(words, stopwords=None, show_progress=False), show_progress=False)

    def answer(asked: Sequence[Row]) -> list[str]:
        found, _ = index.retrieve(
            bm25s.tokenize([_words(row) for row in asked], stopwords=None, show_progress=False),
            k=1,
            show_progress=False,
        )
        return [exchanged(learned[int(number[0])], row) for row, number in zip(asked, found, strict=True)]

    return answer


def _words(row: Row) -> str:
    """The request, without the sheet."""
    return question_of(row).rpartition("\n\n")[2]


def exchanged(learned: Row, asked: Row) -> str:
    """The answer of one row for the sheet of another: columns with the same header, or else those that the request
    names, or else of the same kind; the last row; values of the other sheet that the request names."""
    formula = str(learned["answer"])
    if formula == CANNOT or "sheet" not in asked:
        return formula
    if learned.get("mode") == "semicolons":
        formula = with_commas(formula)
    old, new = Sheet.from_json(learned["sheet"]), Sheet.from_json(asked["sheet"])
    request = _words(asked).casefold()
    letters: dict[str, str] = {}
    for letter in dict.fromkeys(re.findall(r"\b([A-Z])\$?\d", formula)):
        index = ord(letter) - 65
        if index < len(old.headers):
            letters[letter] = letter_of(_column(old, index, new, request, set(letters.values())))
    formula = re.sub(
        r"(\$?)\b([A-Z])(\$?)(\d+)\b",
        lambda found: (
            found[1]
            + letters.get(found[2], found[2])
            + found[3]
            + (str(new.last) if int(found[4]) == old.last else found[4])
        ),
        formula,
    )
    texts = [cell for row in new.rows for cell in row if isinstance(cell, str) and cell.strip()]
    named = sorted({text.strip() for text in texts if text.strip().casefold() in request}, key=len, reverse=True)
    numbers = re.findall(r"\d+(?:\.\d+)?", request)
    if named:
        formula = re.sub(
            r'"(<>|[<>]=?)?[A-Za-z][^"]*"', lambda found: f'"{found[1] or ""}{named[0]}"', formula, count=1
        )
    if numbers:
        formula = re.sub(r"([<>]=?)\d+(?:\.\d+)?", lambda found: found[1] + numbers[0], formula)
    return with_semicolons(formula) if asked.get("mode") == "semicolons" else formula


def _column(old: Sheet, index: int, new: Sheet, request: str, taken: set[str]) -> int:
    header, kind = old.headers[index].strip().casefold(), old.kind(index)
    names = [one.strip().casefold() for one in new.headers]
    free = [at for at in range(len(names)) if letter_of(at) not in taken] or list(range(len(names)))
    if header in names and names.index(header) in free and header in request:
        return names.index(header)
    fitting = [at for at in free if new.kind(at) == kind] or free
    return next((at for at in fitting if names[at] in request), fitting[0])
