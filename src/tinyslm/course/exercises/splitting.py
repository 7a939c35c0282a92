"""Exercise: pre-tokenization with a regular expression."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tinyslm.course.exercises.exercise import Check, Exercise

TEXTS = (
    "def parseHttpRequest(rawLine):\n    return rawLine.split('\\r\\n')  # 2026-11-30\n",
    "It's 12345 o'clock, she'll say;  the naïve café wasn't\n\n\topen.  ",
    "snake_case_name = getValue(x1y2, 0xFF)\r\n",
    "日本語のテキスト und Straße, ½ × 3 = 1.5 🙂",
    "iOS, eBay und aB Cd eF",
)


def _pieces(module: Any, text: str) -> list[str]:
    return [found if isinstance(found, str) else "".join(found) for found in re.findall(module.WORDS, text)]


def _nothing_lost(module: Any) -> str:
    for text in TEXTS:
        pieces = _pieces(module, text)
        if "".join(pieces) != text:
            place = next(
                (i for i, (a, b) in enumerate(zip("".join(pieces), text, strict=False)) if a != b), len(text) - 1
            )
            lost = f"In {text!r}, the split loses {text[place]!r} (character {place + 1})."
            return f"{lost} Groups that capture lose text, too."
    return ""


def _digits(module: Any) -> str:
    for text in TEXTS:
        for piece in _pieces(module, text):
            if len(piece) > 1 and any(character.isdecimal() for character in piece):
                return f"The piece {piece!r} of {text!r} has a digit and something else."
    return ""


def _camel_case(module: Any) -> str:
    for text, expected in (
        ("parseHttpRequest", ["parse", "Http", "Request"]),
        (" getValue", [" get", "Value"]),
        ("HELLO", ["HELLO"]),
        ("Hello", ["Hello"]),
        ("naïveCafé", ["naïve", "Café"]),
    ):
        if (found := _pieces(module, text)) != expected:
            return f"{text!r} is split into {found}, not into {expected}."
    return ""


def _rest_is_kept(module: Any) -> str:
    text, expected = "It's  a test, isn't it?\n", ["It", "'s", " ", " a", " test", ",", " isn", "'t", " it", "?\n"]
    found = _pieces(module, text)
    return "" if found == expected else f"{text!r} is split into {found}; before it was {expected}."


def _in_tokenizers(module: Any) -> str:
    from tokenizers import Tokenizer

    tokenizer = module.Tokenizer.learn(" ".join(TEXTS) * 2, 60)
    model = module.Model(module.config_of(tokenizer.end + 1, 64, 1, 16))
    module.save(Path("model"), model, tokenizer)
    theirs = Tokenizer.from_file("model/tokenizer.json")
    for text in TEXTS:
        ids = tokenizer.encode(text)
        if tokenizer.decode(ids) != text:
            return f"Encoded and decoded, {text!r} becomes {tokenizer.decode(ids)!r}."
        if ids != theirs.encode(text).ids:
            return f"The library tokenizers, which reads the saved file, finds other tokens in {text!r}."
    return ""


SPLITTING = Exercise(
    title="Your own split",
    about="Pre-tokenization: how a text is split into words before byte pairs are merged.",
    task=(
        "Byte pairs are merged within words only, so the regular expression WORDS decides what can become a token. "
        "Change it for source code with numbers in it: each digit is a piece of its own, and a name in camelCase is "
        "split before each capital A to Z that follows a lower-case letter: parseHttpRequest becomes parse, Http "
        "and Request. Everything else stays as it is.",
        "No character may be lost. The expression is stored in tokenizer.json, where another regular-expression engine "
        "uses it; what you write has to mean the same there.",
    ),
    hints=(
        "A look-ahead such as (?!...) at a letter says what this letter must not be, and takes no character.",
        "A lower-case letter before a capital is (?<=[^\\W\\d_A-Z])[A-Z]. Letters of a word: a first one, then letters "
        "that are not such a capital.",
        "The piece that begins at the capital has a lower-case letter before it too: the rule is for the letters "
        "after the first one.",
    ),
    start="tiny.py",
    checks=(
        Check("The pieces of a text, joined, are the text.", _nothing_lost),
        Check("Each digit is a piece of its own.", _digits),
        Check("Names are split before a capital that follows a lower-case letter.", _camel_case),
        Check("Other pieces stay as they were.", _rest_is_kept),
        Check("The library tokenizers finds the same tokens in the saved file.", _in_tokenizers),
    ),
    then=("python FILE train TEXT.txt my-model --merges 500 --minutes 1",),
)
