"""From logits to a chosen token: softmax, temperature, top-k, top-p and min-p."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from tinyslm.core.page import Block, Paragraph, Section, Table
from tinyslm.course.blocks import Formula, Widget
from tinyslm.course.chapter import Chapter
from tinyslm.course.subject import Subject
from tinyslm.tokenizer.shown import face, show_token

SHOWN = 12
"""Likeliest tokens that are shown by name."""
MOST_LOGITS = 400_000
"""Logits on the page: of a large vocabulary, the page has them for some positions of the sentence only."""
COLD = 0.5
"""The temperature of an example."""
SETTINGS = (
    (
        "temperature",
        "Divides all logits. Below 1, likely tokens become likelier; above 1, the probabilities become more equal.",
    ),
    ("top-k", "Keeps the k likeliest tokens."),
    ("top-p", "Keeps the likeliest tokens that together have at least the probability p."),
    ("min-p", "Keeps tokens that are at least p times as likely as the likeliest one."),
)


def _blocks(subject: Subject) -> Iterator[Block]:
    logits_v = subject.logits(subject.ids)[-1].double()
    yield Section("From logits to probabilities", tuple(_softmax(subject, logits_v)))
    yield Section(
        "Choosing one",
        (
            Paragraph(
                "Always taking the likeliest token gives dull text that repeats itself. Sampling from all tokens "
                "sometimes gives nonsense, because there are so many unlikely ones. Four settings are compromises "
                "between the two. They are applied in this order; the remaining probabilities are divided by their sum."
            ),
            Table(SETTINGS),
            Paragraph(
                "The first slider chooses how many tokens of your sentence the model has read. The token that follows "
                "in the sentence is marked."
            ),
            Widget("sampling", prompts(subject), "Filters over the next token's probabilities"),
        ),
    )
    yield Section("Why a prompt should not end in a space", tuple(_spaces(subject)))


def _softmax(subject: Subject, logits_v: Tensor) -> Iterator[Block]:
    """The softmax of the likeliest token after the sentence, in numbers, at two temperatures."""
    best = logits_v.topk(1)
    name, logit = face(show_token(subject.tokenizer, int(best.indices[0]))), float(best.values[0])
    last = face(subject.tokens[-1])
    yield Paragraph(
        f"After the last token of the sentence ({last}), the model computes one number for each of the "
        f"{len(logits_v):,} tokens of its vocabulary: the logits. The softmax turns them into probabilities: all are "
        "positive, and their sum is 1. Only differences matter: a token whose logit is larger by 1 is e = 2.718 times "
        "as likely."
    )
    lines = [
        (
            "p(token) = exp(logit of the token) / sum of exp(logit) over all tokens",
            f"logits and p: [vocabulary] = [{len(logits_v):,}]",
        )
    ]
    for heat in (1.0, COLD):
        total = float((logits_v / heat).exp().sum())
        by = "" if heat == 1 else f" / {heat}"
        lines.append(
            (
                f"p({name}) = exp({logit:.3f}{by}) / {total:.4g} = {math.exp(logit / heat) / total:.4f}",
                f"the sum has {len(logits_v):,} terms, one for each token of the vocabulary"
                if heat == 1
                else f"the same at temperature {heat}: every logit is divided by it first",
            )
        )
    yield Formula(lines)


def prompts(subject: Subject) -> dict[str, Any]:
    """The sentence's tokens, and what the model expects after some of them, the last among these.

    places: for each, `after`, how many tokens the model has read; `logits` of all tokens, the greatest first; `faces`
    of the first ones; `next`: the place of the sentence's own next token among the logits, and its text, or `None`.
    """
    logits_tv, length = subject.logits(subject.ids), len(subject.ids)
    number = max(1, min(length, MOST_LOGITS // logits_tv.shape[1]))
    cuts = sorted({length - round(step * length / number) for step in range(number)})
    return {
        "tokens": [face(one) for one in subject.tokens],
        "places": [
            {"after": cut, **distribution(subject, logits_tv[cut - 1], (*subject.ids, None)[cut])} for cut in cuts
        ],
    }


def distribution(subject: Subject, logits_v: Tensor, following: int | None = None) -> dict[str, Any]:
    """Logits of all tokens, the greatest first; the texts of the first; and where the token that follows is."""
    sorted_v, order = logits_v.sort(descending=True)
    faces = [face(show_token(subject.tokenizer, token)) for token in order[:SHOWN].tolist()]
    own = None
    if following is not None:
        own = [int((order == following).nonzero()), face(show_token(subject.tokenizer, following))]
    return {"faces": faces, "logits": sorted_v.tolist(), "next": own}


def _spaces(subject: Subject) -> Iterator[Block]:
    tokenizer = subject.tokenizer
    words = subject.text.strip().rsplit(" ", 1)[0] or "The"
    rows = []
    for name, text in (("without a space", words), ("with a space", words + " ")):
        ids = [*tokenizer.start_ids, *tokenizer.encode(text)][-subject.model.config.longest :]
        share_v, order = subject.logits(ids)[-1].softmax(-1).topk(3)
        likely = ", ".join(
            f"{face(show_token(tokenizer, token))} {100 * share:.1f} %"
            for token, share in zip(order.tolist(), share_v.tolist(), strict=True)
        )
        pieces = [face(show_token(tokenizer, token)) for token in ids[-3:]]
        rows.append((name, " | ".join(pieces), likely))
    yield Table(rows, ("the prompt ends", "its last tokens", "likeliest next tokens"))
    pieces_of = (tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size))
    of_words = [piece for piece in pieces_of if piece[-1:].isalpha() and piece.strip().isalpha()]
    spaced = sum(piece.startswith(b" ") for piece in of_words)
    if not spaced:
        yield Paragraph(
            "In your vocabulary, no token contains both a space and letters, so a space at the end does no harm: it "
            "is a separate token, as in the training text. In most vocabularies, a word and the space before it are "
            "one token, and a space at the end leads to sequences of tokens that are rare in training text."
        )
        return
    yield Paragraph(
        f"In your vocabulary, {spaced:,} of {len(of_words):,} tokens of letters begin with a space: a word "
        "and the space before it are one token. After a prompt that ends in a space, the model must "
        "continue with a token without its space, a sequence that hardly occurs in training text. tinyslm therefore "
        "removes the last token of the prompt and samples among the tokens that begin with its text (token healing)."
    )


PREDICTION = Chapter(
    "Prediction",
    "How a list of numbers becomes the next token, and what temperature, top-k, top-p and min-p do to it.",
    lambda subject: list(_blocks(subject)),
    ("prediction.js",),
)
