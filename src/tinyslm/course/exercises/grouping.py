"""Exercise: grouped-query attention."""

from __future__ import annotations

from typing import Any

import torch

from tinyslm.course.exercises.exercise import Check, Exercise
from tinyslm.course.exercises.originals import IDS, max_difference, original, parameters, with_larger_weights

VOCABULARY, DIM, DEPTH, HEADS, KV_HEADS = 16, 32, 2, 4, 2
HEAD = DIM // HEADS


def _model(module: Any, **options: int) -> Any:
    return with_larger_weights(module.TinySLM(VOCABULARY, dim=DIM, depth=DEPTH, heads=HEADS, **options))


def _narrower(module: Any) -> str:
    found, full = _model(module, kv_heads=KV_HEADS), _model(original("article.py"))
    for name in ("k_proj", "v_proj"):
        shape = list(getattr(found.blocks[0].attention, name).weight.shape)
        if shape != [KV_HEADS * HEAD, DIM]:
            return (
                f"With {HEADS} heads and kv_heads={KV_HEADS}, {name}.weight is {shape}, not {[KV_HEADS * HEAD, DIM]}."
            )
    saved = 2 * DEPTH * (HEADS - KV_HEADS) * HEAD * (DIM + 1)
    expected = parameters(full) - saved
    return "" if parameters(found) == expected else f"It has {parameters(found):,} parameters, not {expected:,}."


def _usual(module: Any) -> str:
    full = _model(original("article.py"))
    for options in ({}, {"kv_heads": HEADS}):
        found = _model(module, **options)
        found.load_state_dict(full.state_dict())
        with torch.no_grad():
            if max_difference(found(IDS), full(IDS)) > 1e-5:
                return f"TinySLM(..., {options or 'without kv_heads'}) gives different logits from the article's model."
    return ""


def _repeated(module: Any) -> str:
    grouped, full = _model(module, kv_heads=KV_HEADS), _model(original("article.py"))
    weights = dict(grouped.state_dict())
    for name, weight in grouped.state_dict().items():
        if "k_proj" in name or "v_proj" in name:
            rows = weight.unflatten(0, (KV_HEADS, HEAD))
            weights[name] = rows.repeat_interleave(HEADS // KV_HEADS, dim=0).flatten(0, 1)
    full.load_state_dict(weights)
    with torch.no_grad():
        if max_difference(grouped(IDS), full(IDS)) < 1e-5:
            return ""
    return (
        "The logits differ from those of a full model whose heads 0 and 1 have the keys and values of your head 0, and "
        "heads 2 and 3 those of your head 1. Are they repeated in the order 0, 0, 1, 1?"
    )


def _single(module: Any) -> str:
    with torch.no_grad():
        found = _model(module, kv_heads=1)(IDS)
    expected = [*IDS.shape, VOCABULARY]
    return "" if list(found.shape) == expected else f"With kv_heads=1, logits are {list(found.shape)}, not {expected}."


def _refuses(module: Any) -> str:
    try:
        _model(module, kv_heads=3)
    except (ValueError, AssertionError):
        return ""
    return "4 heads cannot share 3 keys evenly: raise a ValueError for kv_heads=3."


GROUPING = Exercise(
    title="Grouped-query attention",
    about="Several heads share their keys and values, so that the KV cache is smaller.",
    task=(
        "When a model generates text, it keeps the keys and values of all earlier tokens: 2 * depth * width numbers "
        "per token. In grouped-query attention (Ainslie et al., 2023), several query heads share one key/value "
        "head. With 4 query heads and 2 key/value heads, half of that is enough.",
        "Give TinySLM an argument kv_heads=None (None: as many as heads). k_proj and v_proj then have kv_heads * e "
        "rows, and query heads use them in groups: with 4 query heads and 2 key/value heads, heads 0 and 1 use "
        "key/value head 0, and heads 2 and 3 use key/value head 1. Raise a ValueError if heads is not a multiple of "
        "kv_heads.",
    ),
    hints=(
        "The width of a head follows from the queries: e = width / heads. It is the same for keys and values.",
        "unflatten(-1, (-1, e)) cuts a projection into as many heads as there are.",
        "repeat_interleave repeats each head before the next; repeat repeats them all in turn.",
    ),
    start="article.py",
    checks=(
        Check("Keys and values are projected to fewer heads.", _narrower),
        Check("Without kv_heads, the model is the article's.", _usual),
        Check("The logits are those of a full model with repeated keys and values.", _repeated),
        Check("All heads can share one key and value.", _single),
        Check("heads must be a multiple of kv_heads.", _refuses),
    ),
)
