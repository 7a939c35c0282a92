"""Checks of the text: wrongly decoded characters, mixed Unicode forms, other languages, empty and giant rows."""

from __future__ import annotations

import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Iterator

from tinyslm.data.cleaning import looks_wrongly_decoded
from tinyslm.data.languages import clear_language
from tinyslm.data.lint.check import Check, Examples, Hit, quoted

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_COMBINED = re.compile("[^\\W\\d_][\u0300-\u036f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
NEAR = 20
"""Characters to show on each side of a fault."""
GIANT_TIMES, GIANT = 20, 20_000
"""A giant row has more than `GIANT` characters, and more than `GIANT_TIMES` those of a long row (the 95th percentile,
or five times the median if that is less)."""
MINOR_SHARE = 0.2
"""Maximum share of the answers for a language to count as an exception."""
FEWEST = 20
"""Minimum number of answers for this check."""
SAMPLED, LONGEST = 500, 500
"""Approximate number of rows that determine the usual language, and the characters of each."""


def _garbled(data: Examples) -> Iterator[Hit]:
    for one, text in zip(data.conversations, data.texts, strict=True):
        if text.isascii():
            continue
        if (at := text.find("\ufffd")) >= 0:
            yield Hit(one.place, f"U+FFFD replaces a lost character: {_near(text, at)}")
        elif found := _SURROGATE.search(text):
            yield Hit(one.place, f"unpaired surrogate: {_near(text, found.start())}")
        elif line := next(filter(looks_wrongly_decoded, text.split("\n")), ""):
            at = next(place for place, char in enumerate(line) if not char.isascii())
            yield Hit(one.place, f"wrongly decoded UTF-8: {_near(line, at)}")


def _control(data: Examples) -> Iterator[Hit]:
    for one, text in zip(data.conversations, data.texts, strict=True):
        if found := _CONTROL.search(text):
            yield Hit(one.place, f"U+{ord(found[0]):04X}: {_near(text, found.start())}")


def _mixed_forms(data: Examples) -> Iterator[Hit]:
    """Rows with decomposed letters (NFD), if other rows have composed ones (NFC)."""
    apart = []
    composed = 0
    for row, text in enumerate(data.texts):
        if text.isascii():
            continue
        if (found := _COMBINED.search(text)) and len(unicodedata.normalize("NFC", found[0])) == 1:
            apart.append((row, found))
        else:
            composed += any(unicodedata.decomposition(char)[:1] not in ("", "<") for char in set(text))
    if composed:
        for row, found in apart:
            detail = f"{unicodedata.normalize('NFC', found[0])!r} is written as two characters"
            yield Hit(data.conversations[row].place, detail)


def _languages(data: Examples) -> Iterator[Hit]:
    """Answers in a rare language. The usual language is that of a sample: short texts reveal it only together."""
    sample = data.texts[:: 1 + len(data.texts) // SAMPLED]
    usual = clear_language("\n".join(text[:LONGEST] for text in sample))
    if usual is None or len(data.answers) < FEWEST:
        return
    found = [(one, clear_language(one.text)) for one in data.answers]
    counts = Counter(language for _, language in found)
    for one, language in found:
        if language not in (usual, None) and counts[language] <= MINOR_SHARE * len(found):
            yield Hit(one.place, f"language {language}, others {usual}: {quoted(one.text)}")


def _empty(data: Examples) -> Iterator[Hit]:
    for one in data.conversations:
        for message in one.messages:
            if message["role"] in ("user", "system") and not message["content"].strip():
                yield Hit(one.place, f"the message of the {message['role']} is empty")
                break


def _giant(data: Examples) -> Iterator[Hit]:
    sizes = list(map(len, data.texts))
    if len(sizes) < 2:
        return
    usual = statistics.median(sizes)
    long = min(statistics.quantiles(sizes, n=20)[-1], 5 * usual)
    for one, size in zip(data.conversations, sizes, strict=True):
        if size > max(GIANT, GIANT_TIMES * long):
            yield Hit(one.place, f"{size:,} characters; half of all rows have at most {usual:,.0f}")


def _near(text: str, at: int) -> str:
    return quoted(text[max(0, at - NEAR) : at + NEAR])


CHECKS = {
    "garbled": Check(
        "warning",
        "Rows with wrongly decoded characters",
        "Read the original file as UTF-8 again, or repair the rows with the package ftfy.",
        _garbled,
    ),
    "control-characters": Check(
        "warning",
        "Rows with control characters",
        "Remove these characters: the model learns to write them.",
        _control,
    ),
    "mixed-forms": Check(
        "note",
        "Rows in another Unicode form than the others",
        'Normalise all text to one form: unicodedata.normalize("NFC", text).',
        _mixed_forms,
    ),
    "languages": Check(
        "note",
        "Answers in another language than most",
        "Remove or translate them, unless the model should answer in several languages.",
        _languages,
    ),
    "empty": Check("warning", "Rows with an empty message", "Complete or remove them.", _empty),
    "giant": Check("note", "Rows far longer than the others", "Check that each is one example.", _giant),
}
