"""Kinds of tokens, and the loss on each."""

import math

import pytest

from tinyslm.inspection.inspecting import Scored
from tinyslm.inspection.token_kinds import loss_by_kind, token_kind
from tinyslm.tokenizer.shown import Token


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((text, "words") for text in (" the", "x1", "漢字", "नि", "'t", "étude")),
        *((text, "digits") for text in ("7", " 12", "½", "٣", "1.")),
        *((text, "spaces") for text in (" ", "\n\n", "\t", "\u3000")),
        *((text, "punctuation") for text in (".", ' "', "()", "€", "🙂", ")\n", r"\x0e")),
    ],
)
def test_kinds_of_texts(text: str, kind: str) -> None:
    assert token_kind(Token(5, text, "text")) == kind


def test_other_tokens_have_a_kind_of_their_own() -> None:
    assert token_kind(Token(5, "C3", "bytes")) == "bytes"
    assert token_kind(Token(5, "<|im_end|>", "special")) == "special"


def test_the_loss_is_divided_among_kinds() -> None:
    tokens = [("a", None), (" b", 0.5), ("1", 0.25), ("2", 0.125), (".", 1.0)]
    scored = [
        Scored(Token(number, text, "text"), None if share is None else math.log(share), 1, ())
        for number, (text, share) in enumerate(tokens)
    ]
    words, digits, punctuation = loss_by_kind(scored)
    assert (words.kind, words.tokens, round(words.bits, 6)) == ("words", 1, 1.0)
    assert (digits.kind, digits.tokens, round(digits.bits_per_token, 6)) == ("digits", 2, 2.5)
    assert punctuation.share == 0
    assert digits.share == pytest.approx(5 / 6)
    assert loss_by_kind(scored[:1]) == ()
