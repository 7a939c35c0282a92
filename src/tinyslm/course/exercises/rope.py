"""Exercise: rotary positions in place of learned ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tinyslm.course.exercises.exercise import Check, Exercise
from tinyslm.course.exercises.originals import max_difference, original, parameters, with_larger_weights

VOCABULARY, DIM, HEADS = 16, 32, 2
HEAD = DIM // HEADS


def _model(module: Any) -> Any:
    return with_larger_weights(module.TinySLM(VOCABULARY, dim=DIM, depth=2, heads=HEADS))


def _no_table(module: Any) -> str:
    before, found = parameters(_model(original("article.py"))), parameters(_model(module))
    expected = before - 512 * DIM
    return "" if found == expected else f"The model has {found:,} parameters; without positions, {expected:,} are left."


def _lengths(module: Any) -> str:
    torch.manual_seed(0)
    x_bhte = torch.randn(2, HEADS, 9, HEAD)
    turned = module.rotate(x_bhte)
    if turned.shape != x_bhte.shape:
        return f"rotate returns a tensor of shape {list(turned.shape)} for one of shape {list(x_bhte.shape)}."
    if max_difference(turned.norm(dim=-1), x_bhte.norm(dim=-1)) > 1e-4:
        return "Vectors get longer or shorter: a rotation by an angle needs its cosine and its sine, and both signs."
    if max_difference(turned[..., 0, :], x_bhte[..., 0, :]) > 1e-6:
        return "The vectors at position 0 change; their angle is 0."
    if max_difference(turned[..., 1, :], x_bhte[..., 1, :]) < 1e-3:
        return "The vectors at position 1 do not change."
    return ""


def _distance(module: Any) -> str:
    torch.manual_seed(0)
    q_e, k_e = torch.randn(2, HEAD)
    times = 40
    q_te, k_te = (module.rotate(one.expand(1, 1, times, HEAD))[0, 0] for one in (q_e, k_e))
    scores_tt = q_te @ k_te.T
    for distance in (0, 1, 5):
        diagonal = scores_tt.diagonal(-distance)
        if max_difference(diagonal, diagonal[:1].expand_as(diagonal)) > 1e-3:
            return (
                f"A query and a key at distance {distance} have the score {float(diagonal[0]):.3f} at the start "
                f"of the text, and {float(diagonal[-1]):.3f} further on."
            )
    if max_difference(scores_tt.diagonal(-1)[:1], scores_tt.diagonal(-5)[:1]) < 1e-3:
        return "Scores do not depend on the distance at all."
    return ""


def _angles(module: Any) -> str:
    places: list[Tensor] = []
    for pair in range(HEAD):
        x_bhte = torch.zeros(1, 1, 2, HEAD)
        x_bhte[..., pair] = 1.0
        places.append(module.rotate(x_bhte)[0, 0, 1])  # at position 1
    cosines = sorted((round(float(turned[pair]), 5) for pair, turned in enumerate(places)), reverse=True)
    angles = 10_000.0 ** (-torch.arange(0, HEAD, 2) / HEAD)
    expected = sorted((round(value, 5) for value in angles.cos().repeat(2).tolist()), reverse=True)
    if max(abs(a - b) for a, b in zip(cosines, expected, strict=True)) < 1e-4:
        return ""
    return (
        f"At position 1, the {HEAD // 2} pairs of a head rotate by the angles 10000 ** (-2i / {HEAD}), from 1 to "
        f"{float(angles[-1]):.4f}; yours have the cosines {cosines[::2]}, not {expected[::2]}."
    )


def _values_stay(module: Any) -> str:
    model = _model(module)
    attention = model.blocks[0].attention
    torch.manual_seed(0)
    x_btd = torch.randn(1, 1, DIM).expand(1, 6, DIM)  # equal tokens: equal values, whatever is attended to
    with torch.no_grad():
        found = attention(x_btd)
    if max_difference(found, found[:, :1].expand_as(found)) < 1e-4:
        return ""
    return "With six equal tokens, positions give different results: queries and keys are rotated, values are not."


def _order_matters(module: Any) -> str:
    model = _model(module)
    torch.manual_seed(0)
    x_btd = torch.randn(1, 9, DIM)
    swapped = x_btd[:, [0, 1, 5, 3, 4, 2, 6, 7, 8]]
    with torch.no_grad():
        found, other = (model.blocks[0].attention(one)[0, -1] for one in (x_btd, swapped))
        longer = model(torch.zeros(1, 600, dtype=torch.long))
    if max_difference(found, other) < 1e-4:
        return (
            "When two tokens change places, the attention's output at a later one stays the same: does it use rotate?"
        )
    return "" if longer.shape[1] == 600 else "A text of 600 tokens, more than the article's 512, is cut."


ROPE = Exercise(
    title="Rotary positions",
    about="Rotate queries and keys, so that scores depend on distances.",
    task=(
        "The article's model adds a learned vector to each token for its position, of which it has 512. Replace them "
        "by rotary positions (Su et al., 2021): each head's queries and keys are seen as pairs of numbers, points in "
        "a plane, and pair i at position t is rotated by the angle t * 10000 ** (-2i / e), where e is the width of the "
        "head.",
        "Write a function rotate(x_bhte) that rotates a tensor [b, h, t, e] and returns the same shape, let the "
        "attention use it for queries and keys, and remove self.positions. Which numbers form a pair is your choice: "
        "neighbours, or the first and the second half of a head, as in Llama.",
    ),
    hints=(
        "A point (x, y) rotated by an angle a is (x cos a - y sin a, x sin a + y cos a).",
        "The angles of all positions are a table [t, e / 2]: torch.arange(t)[:, None] times the row of frequencies.",
        "With halves: left, right = x.chunk(2, dim=-1), and torch.cat of the two results.",
    ),
    start="article.py",
    checks=(
        Check("The table of positions is gone.", _no_table),
        Check("rotate keeps lengths, and leaves position 0 alone.", _lengths),
        Check("Scores depend on the distance between query and key, not on their positions.", _distance),
        Check("The pairs rotate by the angles of the formula.", _angles),
        Check("Values are not rotated.", _values_stay),
        Check("The order of tokens matters, and texts may be longer than 512.", _order_matters),
    ),
)
