"""From logits to a chosen token: softmax, temperature, top-k, top-p and min-p."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tinyslm.core.page import Block, Paragraph, Section, Table
from tinyslm.course.blocks import Formula, Widget
from tinyslm.course.chapter import Chapter
from tinyslm.course.subject import Subject
from tinyslm.tokenizer.shown import Token, face, show_token

SHOWN = 12
"""Likeliest tokens that are shown by name."""


def _blocks(subject: Subject) -> Iterator[Block]:
    logits_v = subject.logits(subject.ids)[-1]
    best = logits_v.topk(3)
    tokens = [show_token(subject.tokenizer, token) for token in best.indices.tolist()]
    total = float(logits_v.double().exp().sum())
    last = face(subject.tokens[-1])
    yield Section(
        "From logits to probabilities",
        (
            Paragraph(
                f"After the last token of the sentence, {last}, the model gives one number for each of the "
                f"{len(logits_v):,} tokens it knows: the logits. The softmax makes probabilities of them: all are "
                "positive, and their sum is 1."
            ),
            Formula(
                (
                    ("p(token) = exp(logit of the token) / sum of exp(logit) over all tokens", ""),
                    (
                        f"p({face(tokens[0])}) = exp({float(best.values[0]):.3f}) / {total:.4g} "
                        f"= {float(best.values[0].double().exp()) / total:.4f}",
                        f"the sum has {len(logits_v):,} terms, one for each token of the vocabulary",
                    ),
                )
            ),
        ),
    )
    yield Section(
        "Choosing one",
        (
            Paragraph(
                "Always taking the likeliest token gives dull text that repeats itself. Drawing from all tokens gives "
                "nonsense now and then, because there are so many unlikely ones. The sliders are the settings that the "
                "engine offers between the two; it applies them in this order."
            ),
            Widget("sampling", distribution(subject, subject.ids), "Filters over the next token's probabilities"),
        ),
    )
    yield Section("Why a prompt should not end in a space", tuple(_spaces(subject)))


def distribution(subject: Subject, ids: Sequence[int]) -> dict[str, Any]:
    """The logits of all tokens after a text, the greatest first, and the texts of the first ones."""
    logits_v, order = subject.logits(ids)[-1].sort(descending=True)
    faces = [face(show_token(subject.tokenizer, token)) for token in order[:SHOWN].tolist()]
    return {"faces": faces, "logits": logits_v.tolist()}


def _spaces(subject: Subject) -> Iterator[Block]:
    tokenizer = subject.tokenizer
    words = subject.text.rstrip().rsplit(" ", 1)[0]
    rows = []
    for name, text in (("without", words), ("with", words + " ")):
        ids = [*tokenizer.start_ids, *tokenizer.encode(text)]
        share_v, order = subject.logits(ids)[-1].softmax(-1).topk(3)
        likely = ", ".join(
            f"{face(show_token(tokenizer, token))} {100 * share:.1f} %"
            for token, share in zip(order.tolist(), share_v.tolist(), strict=True)
        )
        pieces: list[Token] = [show_token(tokenizer, token) for token in ids[-3:]]
        rows.append((f"{name} a space", " | ".join(map(face, pieces)), likely))
    yield Table(rows, ("the prompt ends", "its last tokens", "likeliest next tokens"))
    yield Paragraph(
        "In most vocabularies, a word and the space before it are one token. A prompt that ends in a space has already "
        "used up that space: the model must continue with a word that has no space before it, which it has hardly ever "
        "seen in training. tinyslm goes back a token and chooses among those that begin with the rest of the prompt "
        "(token healing)."
    )


PREDICTION = Chapter(
    "Prediction",
    "How a list of numbers becomes the next token, and what temperature, top-k, top-p and min-p do to it.",
    lambda subject: list(_blocks(subject)),
    ("prediction.js",),
)
