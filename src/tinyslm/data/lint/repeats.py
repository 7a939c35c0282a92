"""Checks of repetition: equal and nearly equal rows, other answers to equal prompts, overlap with evaluation data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tinyslm.data.conversations import Conversation
from tinyslm.data.duplicates import Drop, alike
from tinyslm.data.lint.check import Check, Examples, Hit, quoted, text_of
from tinyslm.data.ngrams import first_sources
from tinyslm.data.similarity import signatures

NEAR = 0.5
"""Texts that share this part of their five-word sequences are compared word by word."""
FEWEST_WORDS = 20
"""Minimum number of words for near equality."""
CHANGED_SHARE, CHANGED_WORDS, IN_A_ROW = 0.1, 2, 2
"""Nearly equal texts differ in at most this share of the words, or this number, and at most so many in a row."""
SPELLING = 0.85
"""Minimum similarity of two spellings of a word."""
AT_ONCE = 4_096
"""Number of texts whose signatures are computed together."""
USUAL_SHARE, USUAL = 0.02, 3
"""Text in more than this share of the rows, and in more than this number, is boilerplate, such as instructions."""


def _first_of_equal(data: Examples) -> list[int]:
    """For each conversation, the index of the first one with equal messages; its own if there is none."""
    seen: dict[str, int] = {}
    return [
        seen.setdefault("\0".join(f"{one['role']}\1{one['content'].strip()}" for one in talk.messages) + rest, row)
        for row, (talk, rest) in enumerate(zip(data.conversations, _others(data), strict=True))
    ]


def _others(data: Examples) -> Iterator[str]:
    """The other parts that distinguish conversations: tool calls and the rejected answer."""
    for one in data.conversations:
        calls = [message["tool_calls"] for message in one.messages if "tool_calls" in message]
        yield f"\0{calls or ''}\0{one.rejected['content'] if one.rejected else ''}"


def _equal(data: Examples) -> Iterator[Hit]:
    for row, first in enumerate(_first_of_equal(data)):
        if first < row:
            yield Hit(data.conversations[row].place, f"equals {data.conversations[first].place}")


def _nearly_equal(data: Examples) -> Iterator[Hit]:
    """Rows with the same answer to nearly the same prompt, or nearly the same answer to the same prompt."""
    sides = [tuple(map(_words, _prompt_and_answer(one))) for one in data.conversations]
    drops = np.full(len(sides), Drop.KEPT, np.uint8)
    for row, first in enumerate(_first_of_equal(data)):
        if first < row or sum(map(len, sides[row])) < FEWEST_WORDS:
            drops[row] = Drop.EXACT_DUPLICATES
    if (drops == Drop.KEPT).sum() < 2:
        return
    found: dict[int, int] = {}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "signatures"
        _write_signatures(file, [text_of(one, system=False) for one in data.conversations])
        for earlier, later in alike(file, drops, NEAR):
            for one, other in zip(earlier.tolist(), later.tolist(), strict=True):
                same = [a == b for a, b in zip(sides[one], sides[other], strict=True)]
                if other not in found and any(same) and _slightly(sides[one], sides[other]):
                    found[other] = one
                    drops[other] = Drop.NEAR_DUPLICATES
    for row, other in sorted(found.items()):
        yield Hit(data.conversations[row].place, f"nearly equals {data.conversations[other].place}")


def _slightly(one: Sequence[list[str]], other: Sequence[list[str]]) -> bool:
    """Whether prompts and answers are equal or differ slightly. Short answers must be equal."""
    answers = one[1] == other[1] or (
        min(len(one[1]), len(other[1])) >= FEWEST_WORDS and _differ_slightly(one[1], other[1])
    )
    return answers and (one[0] == other[0] or _differ_slightly(one[0], other[0]))


def _write_signatures(file: Path, texts: Sequence[str]) -> None:
    with file.open("wb") as out:
        for start in range(0, len(texts), AT_ONCE):
            encoded = [text.encode("utf-8", "replace") for text in texts[start : start + AT_ONCE]]
            out.write((signatures(encoded) & 0xFFFF).astype(np.uint16).tobytes())


def _prompt_and_answer(one: Conversation) -> tuple[str, str]:
    """The messages before the last answer, and the last answer, or "" if there is none."""
    if one.messages[-1]["role"] != "assistant":
        return "\n".join(message["content"] for message in one.messages), ""
    return "\n".join(message["content"] for message in one.messages[:-1]), one.messages[-1]["content"]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.casefold())


def _contradicting(data: Examples) -> Iterator[Hit]:
    """Rows with the prompt of an earlier row and another answer."""
    first: dict[str, tuple[str, str]] = {}
    for one in data.conversations:
        prompt, answer = _prompt_and_answer(one)
        place, earlier = first.setdefault(_normal(prompt), (one.place, answer))
        if one.rejected is None and _normal(earlier) != _normal(answer):
            yield Hit(one.place, f"{quoted(answer, 40)}, but {quoted(earlier, 40)} in {place}")


def _differ_slightly(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two texts differ in a few single words, as after a correction."""
    most = max(CHANGED_WORDS, int(CHANGED_SHARE * len(one)))
    shorter = min(len(one), len(other))
    start = next((place for place in range(shorter) if one[place] != other[place]), shorter)
    end = next((place for place in range(shorter - start) if one[-1 - place] != other[-1 - place]), shorter - start)
    a, b = one[start : len(one) - end], other[start : len(other) - end]
    if max(len(a), len(b)) > 10 * most:
        return False
    changes = [change for change in SequenceMatcher(None, a, b, autojunk=False).get_opcodes() if change[0] != "equal"]
    sizes = [max(i2 - i1, j2 - j1) for _, i1, i2, j1, j2 in changes]
    if sum(sizes) > most or max(sizes, default=0) > IN_A_ROW:
        return False
    return all(_minor(" ".join(a[i1:i2]), " ".join(b[j1:j2])) for _, i1, i2, j1, j2 in changes)


def _minor(before: str, after: str) -> bool:
    """Whether a change keeps the meaning: it changes no number, and replaces no word by a different one."""
    if any(char.isdigit() for char in before + after):
        return False
    return not before or not after or SequenceMatcher(None, before, after, autojunk=False).ratio() >= SPELLING


def _overlaps(data: Examples, texts: Sequence[str], places: Sequence[str]) -> Iterator[Hit]:
    training = [text_of(one, system=False) for one in data.conversations]
    if not training or not texts:
        return
    whole = {_normal(text): row for row, text in reversed(list(enumerate(training)))}
    sources = first_sources(texts, training, usual=max(USUAL, int(USUAL_SHARE * len(training))))
    for text, place, source in zip(texts, places, sources.tolist(), strict=True):
        if (row := whole.get(_normal(text))) is not None:
            yield Hit(place, f"equals {data.conversations[row].place}")
        elif source >= 0:
            yield Hit(place, f"shares 13 words or more with {data.conversations[source].place}")


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def _in_validation(data: Examples) -> Iterator[Hit]:
    yield from _overlaps(data, [text_of(one, system=False) for one in data.valid], [one.place for one in data.valid])


def _in_evaluation(data: Examples) -> Iterator[Hit]:
    yield from _overlaps(data, [text for _, text in data.against], [place for place, _ in data.against])


CHECKS = {
    "duplicates": Check(
        "warning",
        "Rows that equal an earlier one",
        "Remove them: they only increase the weight of their answer.",
        _equal,
    ),
    "near-duplicates": Check(
        "note",
        "Rows that differ from an earlier one in a few words",
        "Keep the better one of each, unless the small difference is the point.",
        _nearly_equal,
    ),
    "other-answers": Check(
        "note",
        "Rows with the prompt of an earlier row and another answer",
        "Keep one answer, or make the prompts different, unless several answers are right.",
        _contradicting,
    ),
    "in-validation": Check(
        "warning",
        "Rows of the validation data that the training data contains",
        "Remove them from one of the two: a score on them measures memory.",
        _in_validation,
    ),
    "in-evaluation": Check(
        "warning",
        "Rows of the evaluation files that the training data contains",
        "Remove them from the training data: otherwise the evaluation measures memory.",
        _in_evaluation,
    ),
}
