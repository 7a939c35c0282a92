"""Exercise: temperature, top-k and top-p."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tinyslm.course.exercises.exercise import Check, Exercise
from tinyslm.course.exercises.originals import max_difference

PROBABILITIES = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15])


class _Scripted:
    """A model whose logits are always those of `PROBABILITIES`."""

    config = {"max_position_embeddings": 8}  # noqa: RUF012

    def __call__(self, ids_bt: Tensor, *_: Any) -> Tensor:
        return PROBABILITIES.log().expand(*ids_bt.shape, -1)


def _expect(found: Tensor, expected: list[float], call: str) -> str:
    if max_difference(found.float(), torch.tensor(expected)) < 1e-4:
        return ""
    shown = [round(value, 3) for value in found.tolist()]
    return (
        f"For probabilities of {[round(p, 2) for p in PROBABILITIES.tolist()]}, {call} gives {shown}, not {expected}."
    )


def _temperature(module: Any) -> str:
    plain = module.filtered(PROBABILITIES.log())
    if wrong := _expect(plain, [0.05, 0.4, 0.1, 0.3, 0.15], "filtered(logits)"):
        return wrong
    halved = PROBABILITIES**2 / (PROBABILITIES**2).sum()
    expected = [round(value, 6) for value in halved.tolist()]
    return _expect(module.filtered(PROBABILITIES.log(), temperature=0.5), expected, "filtered(logits, temperature=0.5)")


def _zero(module: Any) -> str:
    found = module.filtered(PROBABILITIES.log(), temperature=0.0)
    return _expect(found, [0.0, 1.0, 0.0, 0.0, 0.0], "filtered(logits, temperature=0)")


def _top_k(module: Any) -> str:
    found = module.filtered(PROBABILITIES.log(), top_k=2)
    if wrong := _expect(found, [0.0, 0.571429, 0.0, 0.428571, 0.0], "filtered(logits, top_k=2)"):
        return wrong
    found = module.filtered(PROBABILITIES.log(), top_k=99)
    return _expect(found, [0.05, 0.4, 0.1, 0.3, 0.15], "filtered(logits, top_k=99)")


def _top_p(module: Any) -> str:
    found = module.filtered(PROBABILITIES.log(), top_p=0.6)
    if wrong := _expect(found, [0.0, 0.571429, 0.0, 0.428571, 0.0], "filtered(logits, top_p=0.6)"):
        return wrong + " The token with which the sum reaches top_p is kept."
    found = module.filtered(PROBABILITIES.log(), top_p=0.1)
    return _expect(found, [0.0, 1.0, 0.0, 0.0, 0.0], "filtered(logits, top_p=0.1)")


def _order(module: Any) -> str:
    found = module.filtered(PROBABILITIES.log(), temperature=0.5, top_p=0.8)
    expected = [0.0, 0.64, 0.0, 0.36, 0.0]  # 0.16 and 0.09 of 0.285, which are 88 %; without the temperature, 3 tokens
    wrong = _expect(found, expected, "filtered(logits, temperature=0.5, top_p=0.8)")
    return wrong and f"{wrong} The temperature comes first, then top-k, then top-p."


def _sample_uses_it(module: Any) -> str:
    torch.manual_seed(0)
    drawn = module.sample(_Scripted(), [0], 40, temperature=1.0, top_k=2)[1:]
    if set(drawn) - {1, 3}:
        return f"sample(..., top_k=2) drew the tokens {sorted(set(drawn))}; the two likeliest are 1 and 3."
    if len(set(drawn)) < 2:
        return f"Of 40 draws, sample(..., top_k=2) took the token {drawn[0]} each time: it has to sample."
    drawn = module.sample(_Scripted(), [0], 5, temperature=1.0, top_p=0.1)
    return "" if drawn == [0, 1, 1, 1, 1, 1] else f"sample(..., top_p=0.1) gives {drawn}, not [0, 1, 1, 1, 1, 1]."


SAMPLER = Exercise(
    title="A sampler",
    about="Temperature, top-k and top-p: from logits to the probabilities to sample from.",
    task=(
        "The function sample in the file supports a temperature only. Write a function filtered(logits, "
        "temperature=1.0, top_k=0, top_p=1.0) that gets the logits [vocabulary] and returns the probabilities "
        "[vocabulary] to sample from; their sum is 1.",
        "The temperature comes first; 0 means that the likeliest token gets probability 1. Then keep only the top_k "
        "likeliest tokens (0: all). Of these, keep the smallest set of likeliest tokens whose probabilities add up to "
        "at least top_p.",
        "Then give sample the arguments top_k=0 and top_p=1.0, and let it sample from what filtered returns.",
    ),
    hints=(
        "To remove a token, set its logit to float('-inf'): softmax gives it 0, and divides by the sum of the others.",
        "For top-p, sort the probabilities in descending order and add them up with cumsum. A token stays if the sum "
        "of those before it is below top_p.",
    ),
    start="tiny.py",
    checks=(
        Check("A temperature divides the logits.", _temperature),
        Check("Temperature 0 takes the likeliest token.", _zero),
        Check("top_k keeps the likeliest tokens, or all if there are fewer.", _top_k),
        Check("top_p keeps the fewest tokens that reach it, and at least one.", _top_p),
        Check("The temperature comes before top-p.", _order),
        Check("sample draws from these probabilities.", _sample_uses_it),
    ),
    then=("python FILE sample MODEL --prompt ROMEO:",),
)
