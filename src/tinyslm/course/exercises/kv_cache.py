"""Exercise: a KV cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tinyslm.course.exercises.exercise import Check, Exercise
from tinyslm.course.exercises.originals import IDS, max_difference, original, with_larger_weights

CONTEXT = 16


def _models(module: Any) -> tuple[Any, Any]:
    """The learner's model, and the file's with the same weights."""
    ours, theirs = (
        with_larger_weights(one.Model(one.config_of(16, 128, 2, CONTEXT))) for one in (module, original("tiny.py"))
    )
    ours.load_state_dict(theirs.state_dict())
    return ours.eval(), theirs.eval()


@contextmanager
def _counted(model: Any) -> Iterator[list[int]]:
    """How many tokens each call of the model reads."""
    counts: list[int] = []
    hook = model.embed_tokens.register_forward_hook(lambda _module, inputs, _output: counts.append(inputs[0].numel()))
    try:
        yield counts
    finally:
        hook.remove()


def _fed(model: Any, sizes: tuple[int, ...]) -> Tensor:
    cache: list[Any] = []
    with torch.no_grad():
        return torch.cat([model(part, cache) for part in IDS.split(sizes, dim=1)], dim=1)


def _without(module: Any) -> str:
    ours, theirs = _models(module)
    with torch.no_grad():
        return (
            ""
            if max_difference(ours(IDS), theirs(IDS)) < 1e-5
            else "Without a cache, the logits differ from those of the original file."
        )


def _compared(module: Any, sizes: tuple[int, ...], what: str) -> str:
    ours, theirs = _models(module)
    found = _fed(ours, sizes)
    with torch.no_grad():
        expected = theirs(IDS)
    if found.shape != expected.shape:
        shapes = f"{list(found.shape)}, not {list(expected.shape)}"
        return f"{what}, the logits have the shape {shapes}: one for each new token."
    if (distance := max_difference(found, expected)) < 1e-5:
        return ""
    right = int(((found - expected).abs().amax((0, 2)) < 1e-5).cumprod(0).sum())
    return f"{what}, logits differ by up to {distance:.2g}, from token {right + 1} on."


def _whole(module: Any) -> str:
    return _compared(module, (IDS.shape[1],), "With an empty cache")


def _one_by_one(module: Any) -> str:
    wrong = _compared(module, (1,) * IDS.shape[1], "Token by token")
    return wrong and f"{wrong} A new token's position is the number of tokens in the cache."


def _in_parts(module: Any) -> str:
    wrong = _compared(module, (5, 4, 3), "In parts of 5, 4 and 3 tokens")
    return wrong and f"{wrong} Each new token sees the cache and the new tokens up to itself."


def _fewer(module: Any) -> str:
    ours, _ = _models(module)
    with _counted(ours) as counts:
        module.sample(ours, [3, 1, 4, 1, 5], 10)
    if sum(counts) <= 15:
        return ""
    return (
        f"For 5 tokens of a prompt and 10 new ones, sample gives the model {sum(counts)} tokens to compute, in the "
        f"calls {counts}; with a cache, 14 are enough."
    )


def _same_text(module: Any) -> str:
    ours, theirs = _models(module)
    for count, what in ((10, "within the context"), (CONTEXT, f"beyond the context of {CONTEXT} tokens")):
        torch.manual_seed(5)
        found = module.sample(ours, [3, 1, 4, 1, 5], count)
        torch.manual_seed(5)
        expected = original("tiny.py").sample(theirs, [3, 1, 4, 1, 5], count)
        if list(found) != list(expected):
            return f"With the same seed, sample draws different tokens, {what}: {found}, not {expected}."
    return ""


KV_CACHE = Exercise(
    title="A KV cache",
    about="Compute each token once: keep its keys and values during generation.",
    task=(
        "For each new token, sample passes all tokens to the model again, and the model computes the same keys and "
        "values again. Keep them instead.",
        "Give Model.forward a second argument cache=None. A cache is a list, empty at first, to which your code adds "
        "what it needs. model(ids_bt, cache) gets only the tokens after those in the cache, and returns "
        "their logits [b, new tokens, vocabulary]. Without a cache nothing changes.",
        "Then let sample use a cache. Beyond the context length, the window moves with each token, and so do all "
        "positions: there, sample computes the whole window again, as before.",
    ),
    hints=(
        "Keep one pair (keys, values) for each layer. Store the keys after rotation.",
        "rotate needs the position of the first new token: the number of tokens that are in the cache.",
        "is_causal=True lets the first query see the first key only. With a cache, give attn_mask: query i of the new "
        "tokens sees all keys up to place i + (number of kept keys). torch.ones(...).tril(diagonal=kept) makes it.",
    ),
    start="tiny.py",
    checks=(
        Check("Without a cache, logits are as before.", _without),
        Check("A whole text with an empty cache gives the same logits.", _whole),
        Check("Token by token, the logits are the same.", _one_by_one),
        Check("In parts of several tokens, the logits are the same.", _in_parts),
        Check("sample passes each token to the model once.", _fewer),
        Check("sample generates the same text as before, also beyond the context length.", _same_text),
    ),
    then=("python FILE sample MODEL --prompt ROMEO:",),
)
