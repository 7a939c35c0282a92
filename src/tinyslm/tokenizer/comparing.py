"""Compare the ids of two tokenizers: distillation needs equal ids for student and teacher."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.tokenizer import Tokenizer

PIECES = (
    *("the", "The", " the", "Hello", " world", "WORLD", "tokenization", " don't", "I'll", "x_y", "camelCase", "naïve"),
    *("7", "1234567", "3.14159", " 2024-01-31", "$9.99", "\n", "\n\n", "\t", "  ", "    return x", "foo(bar)[0]"),
    *(
        "...",
        "!?",
        " -->",
        "http://a.b/c?d=e",
        "é",
        "Straße",
        "Привет",
        "漢字",
        "ひらがな",
        "한국어",
        "مرحبا",
        "हिन्दी",
        "🙂",
        "👩‍💻",
    ),
)
"""Probe texts; each pair of them, joined, is a probe as well."""
TALKS: tuple[Sequence[Mapping[str, Any]], ...] = (
    ({"role": "user", "content": "Two plus two?"},),
    ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Two plus two?"}),
    (
        {"role": "user", "content": "Two plus two?"},
        {"role": "assistant", "content": "Four."},
        {"role": "user", "content": " And three?\n"},
    ),
)


def first_difference(one: Tokenizer, other: Tokenizer) -> str:
    """Describe the first difference between two tokenizers' ids in a clause; "" if all probes have equal ids."""
    if one.sha256 == other.sha256:
        return ""
    return next(_differences(one, other), "")


def template_difference(one: Tokenizer, other: Tokenizer) -> str:
    """Describe the first conversation that two chat templates render differently in a clause; "" if there is none.

    A tokenizer without a template is not compared.
    """
    if None in (one.chat_template, other.chat_template) or one.chat_template == other.chat_template:
        return ""
    for talk in TALKS:
        ours, theirs = (_rendered(tokenizer, talk) for tokenizer in (one, other))
        if ours != theirs:
            texts = [repr(tokenizer.decode(ids)) for tokenizer, ids in ((one, ours), (other, theirs))]
            return f"their chat templates render a conversation as {texts[0]} and {texts[1]}"
    return ""


def _differences(one: Tokenizer, other: Tokenizer) -> Iterator[str]:
    if one.start_ids != other.start_ids:
        yield f"texts begin with the ids {list(one.start_ids)} and {list(other.start_ids)}"
    for name in sorted(one.special_ids.keys() | other.special_ids.keys()):
        ids = [tokenizer.special_ids.get(name) for tokenizer in (one, other)]
        if ids[0] != ids[1]:
            yield f"the special token {name} has the ids {ids[0]} and {ids[1]}"
    for number in range(max(one.vocab_size, other.vocab_size)):
        pieces = [tokenizer.token_bytes(number) for tokenizer in (one, other)]
        if pieces[0] != pieces[1]:
            yield f"the id {number} is {_shown(pieces[0])} and {_shown(pieces[1])}"
    for text in (*PIECES, *(first + second for first in PIECES for second in PIECES)):
        ids_of = [tokenizer.encode(text) for tokenizer in (one, other)]
        if ids_of[0] != ids_of[1]:
            yield f"the ids of {text!r} are {ids_of[0]} and {ids_of[1]}"


def _rendered(tokenizer: Tokenizer, talk: Sequence[Mapping[str, Any]]) -> list[int]:
    """The ids of a conversation; empty if the template fails."""
    try:
        return encode_chat(tokenizer, talk, add_generation_prompt=True)
    except TinyslmError:
        return []


def _shown(piece: bytes) -> str:
    return repr(piece.decode("utf-8", "backslashreplace")) if piece else "nothing"
