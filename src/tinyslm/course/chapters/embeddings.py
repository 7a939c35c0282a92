"""The table of embeddings: a row for each token, its neighbours, a map, and how it forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tinyslm.core.page import Block, Paragraph, Section, Table
from tinyslm.course.blocks import Formula, Widget
from tinyslm.course.chapter import Chapter
from tinyslm.course.subject import Subject
from tinyslm.inspection.embeddings import Axes, cosine, nearest
from tinyslm.inspection.token_kinds import token_kind
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.shown import face, show_token

MAPPED = 300
"""Tokens on the map."""
LISTED = 600
"""Tokens with neighbours on the page, if there are no snapshots."""
NEIGHBOURS = 8
VALUES = 6
"""Numbers of a vector that a formula shows."""
REPLACED = 3


def _blocks(subject: Subject) -> Iterator[Block]:
    place = _example(subject)
    yield Section("One row for each token", tuple(_rows(subject, place)))
    yield Section("Neighbours", tuple(_neighbours(subject, place)))
    yield Section("A map of the vocabulary", tuple(_map(subject)))
    yield Section("Replace a token by its neighbour", tuple(_replaced(subject, place)))


def _table(model: Decoder) -> Tensor:
    """The embeddings of all tokens, fp32 `[v, d]`."""
    return model.model.embed_tokens.weight.detach().float()


def _example(subject: Subject) -> int:
    """The place of the longest word among the sentence's tokens; the last one of several."""
    places = [place for place, one in enumerate(subject.tokens) if token_kind(one) == "words"] or [-1]
    return max(places, key=lambda place: (len(subject.tokens[place].text.strip()), place)) % len(subject.ids)


def _rows(subject: Subject, place: int) -> Iterator[Block]:
    config, table_vd = subject.model.config, _table(subject.model)
    token, name = subject.ids[place], face(subject.tokens[place])
    yield Paragraph(
        "An id is only a place in a list: token 500 is not half of token 1,000. The model therefore looks up a row of "
        f"{config.dim} numbers for each id, the token's embedding. All rows together are a table E, "
        f"{config.vocab_size:,} by {config.dim}. These numbers are random at first, and are trained "
        "like all other parameters."
    )
    values = ", ".join(f"{value:.3f}" for value in table_vd[token, :VALUES].tolist())
    lines = [
        ("x = E[id]", f"E: [vocabulary, dim] = [{config.vocab_size:,}, {config.dim}]; x: [dim] = [{config.dim}]"),
        (f"E[{token}] = ({values}, ...)", f"the row of {name}, the first {VALUES} of {config.dim} numbers"),
        ("X = E[ids]", f"the whole sentence: [t, dim] = [{len(subject.ids)}, {config.dim}]"),
    ]
    if config.embedding_scale != 1:
        lines.append((f"x = {config.embedding_scale:.4g} E[id]", "your model multiplies all rows by a constant"))
    yield Formula(lines)
    yield Paragraph(
        "Your model uses the same table again for its output (tied embeddings): the logit of a token is the dot "
        "product of its row with the final hidden state. Tokens that can follow the same texts therefore get similar "
        "rows."
        if config.tied
        else "Your model has a second table of the same size for the logits; this chapter is about the first one."
    )


def _neighbours(subject: Subject, place: int) -> Iterator[Block]:
    table_vd = _table(subject.model)
    token = subject.ids[place]
    ids, cosines = nearest(table_vd, [token], 1)
    other = int(ids[0, 0])
    name, near = face(subject.tokens[place]), face(show_token(subject.tokenizer, other))
    product, one, two = cosine(table_vd[token], table_vd[other])
    usual = _usual_cosine(table_vd, _frequent(subject)[:MAPPED])
    yield Paragraph(
        "Two rows are similar if they point in the same direction. The cosine of the angle between them measures "
        "this: it is 1 for the same direction, 0 for a right angle, and -1 for opposite directions. The nearest "
        f"token of {name} is {near}."
    )
    yield Formula(
        (
            ("cos(a, b) = (a · b) / (|a| |b|)", "a · b = a1 b1 + a2 b2 + ...; |a| = sqrt(a · a)"),
            (
                f"cos({name}, {near}) = {product:.4f} / ({one:.4f} x {two:.4f}) = {float(cosines[0, 0]):.4f}",
                f"the largest of {len(table_vd) - 1:,}; the mean over pairs of common tokens is {usual:.3f}",
            ),
        )
    )


def _map(subject: Subject) -> Iterator[Block]:
    data = space(subject)
    first, second = data["states"][-1]["shares"]
    yield Paragraph(
        f"{subject.model.config.dim} dimensions cannot be drawn. The map shows {data['mapped']} of the most common "
        "tokens along the two directions in which their rows vary most (the first two principal components). These "
        f"contain {100 * (first + second):.1f} % of the variance. The rest is not visible, so tokens that are close on "
        "the map need not be neighbours. Words, digits, spaces and punctuation have different colours. Choose a token: "
        "lines lead to its nearest tokens in all dimensions."
    )
    if len(data["states"]) > 1:
        yield Paragraph(
            f"Your run has {len(data['states'])} snapshots. The slider goes from the untrained model to the last "
            "update. The axes are always those of the trained model, and the scale does not change: only the tokens "
            "move. At the start, rows are random, and neighbours mean nothing."
        )
    else:
        yield Paragraph(
            "A run with snapshots also shows how this map forms out of random numbers: "
            "tinyslm train TEXT --train.snapshots 8 --out RUN, then tinyslm learn RUN."
        )
    yield Widget("space", data, "Neighbours of a token, and a map of the vocabulary")


def space(subject: Subject) -> dict[str, Any]:
    """The neighbours of common tokens and their points on the map, for each snapshot or for the model alone.

    tokens: ids, of which the first `mapped` are on the map. states: for each, `points` `[mapped, 2]`, the `shares` of
    the variance, and for each token `near`, (id, cosine) in turn. The axes are those of the last state.
    """
    several = len(subject.snapshots) > 1
    tokens = _frequent(subject)[: MAPPED if several else LISTED]
    mapped = tokens[:MAPPED]
    final_vd = _table(subject.model)
    axes = Axes.of(final_vd[mapped].numpy())
    states: list[dict[str, Any]] = []
    for step, model in subject.snapshot_models() if several else [(None, subject.model)]:
        table_vd = _table(model)
        points, shares = axes.place(table_vd[mapped].numpy())
        ids, cosines = nearest(table_vd, tokens, NEIGHBOURS)
        near = [
            [value for pair in zip(row.tolist(), by.tolist(), strict=True) for value in (pair[0], _short(pair[1]))]
            for row, by in zip(ids, cosines, strict=True)
        ]
        placed = [[_short(x) for x in point] for point in points.tolist()]
        states.append({"step": step, "points": placed, "shares": shares, "near": near})
    named = {*tokens, *(one for state in states for row in state["near"] for one in row[::2])}
    shown = {one: show_token(subject.tokenizer, one) for one in named}
    return {
        "tokens": tokens,
        "mapped": len(mapped),
        "kinds": [token_kind(shown[one]) for one in mapped],
        "faces": {str(one): face(shown[one]) for one in named},
        "states": states,
    }


def _replaced(subject: Subject, place: int) -> Iterator[Block]:
    """What the model predicts if the example is replaced by its neighbours, or by the least similar token."""
    table_vd, ids = _table(subject.model), list(subject.ids[: place + 1])
    common = [one for one in _frequent(subject) if one != ids[-1]]
    near, cosines = nearest(table_vd, [ids[-1]], REPLACED)
    unit_vd = torch.nn.functional.normalize(table_vd, dim=-1)
    to_common = (unit_vd[common] @ unit_vd[ids[-1]]).tolist()
    far = min(range(len(common)), key=to_common.__getitem__)
    tried = [(ids[-1], 1.0), *zip(near[0].tolist(), cosines[0].tolist(), strict=True), (common[far], to_common[far])]
    before, rows = subject.logits(ids)[-1].softmax(-1), []
    for token, similar in tried:
        after = subject.logits([*ids[:-1], token])[-1].softmax(-1)
        best = after.topk(3)
        likely = ", ".join(
            f"{face(show_token(subject.tokenizer, one))} {100 * share:.1f} %"
            for one, share in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        )
        same = float(torch.minimum(before, after).sum())
        rows.append((face(show_token(subject.tokenizer, token)), f"{similar:.3f}", f"{100 * same:.1f} %", likely))
    text = "".join(face(one) for one in subject.tokens[: place + 1])
    yield Paragraph(
        "Does the model treat tokens with similar rows alike? It reads your sentence up to "
        f"{face(subject.tokens[place])} ({text}), then with another last token: the nearest ones, and the least "
        "similar common token. For the overlap, take the smaller of the two probabilities of each next token and add "
        "them up: 100 % means that nothing changes."
    )
    yield Table(rows, ("last token", "cosine", "overlap", "likeliest next tokens"))


def _frequent(subject: Subject) -> list[int]:
    """The tokens of the sentence, then those that are most common in the texts, without bytes and special ones."""
    counts = Counter(one for ids in subject.tokenizer.encode_batch(subject.texts) for one in ids)
    ordered = [*subject.ids, *(one for one, _ in counts.most_common(2 * LISTED))]
    return [one for one in dict.fromkeys(ordered) if show_token(subject.tokenizer, one).kind == "text"][:LISTED]


def _usual_cosine(table_vd: Tensor, ids: Sequence[int]) -> float:
    """The mean cosine over all pairs of different tokens."""
    unit_nd = torch.nn.functional.normalize(table_vd[list(ids)], dim=-1)
    number = len(unit_nd)
    return (float(unit_nd.sum(0).square().sum()) - number) / max(1, number * (number - 1))


def _short(value: float) -> float:
    """Enough digits for a map or a cosine."""
    return round(value, 5)


EMBEDDINGS = Chapter(
    "Embeddings",
    "The row of numbers that stands for a token, its neighbours, and how the map of your vocabulary forms.",
    lambda subject: list(_blocks(subject)),
    ("grid.js", "embeddings.js"),
    ("embeddings.css",),
)
