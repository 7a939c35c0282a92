"""How much each column of each product matters: the importance matrix, as llama.cpp's `imatrix` measures it.

An error in a column of a weight matrix is multiplied by that column's input. So when a matrix is rounded, the error of
each column is weighted by the mean square of its inputs over calibration texts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tinyslm.inspection.own_text import own_text
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.tokenizer import Tokenizer

Importance = Mapping[str, NDArray[np.float32]]

MOST_TOKENS = 1 << 14
"""More text hardly changes the encoding any further (llama.cpp's guides use some ten thousand tokens)."""
LONGEST = 512
LEAST = 1e-4
"""A column that was never used still weighs this share of the mean: another text may use it."""


def importance_matrix(model: Decoder, tokenizer: Tokenizer, texts: Sequence[str]) -> Importance:
    """`column_importance` over `texts` or, without any, over text that the model writes itself."""
    windows = _windows(tokenizer, texts, min(LONGEST, model.config.context))
    return column_importance(model, windows or own_text(model, tokenizer).tolist())


def column_importance(model: Decoder, windows: Iterable[Sequence[int]]) -> Importance:
    """Mean squared input per column over windows of ids, fp32 [width], by the name of each weight matrix.

    A tied output projection has the embedding's name.
    """
    sums: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(_adder(sums, f"{name}.weight"))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not model.lm_head
    ]
    add_output = _adder(sums, "model.embed_tokens.weight" if model.config.tied else "lm_head.weight")
    tokens = 0
    try:
        with torch.inference_mode():
            for ids in windows:
                hidden_btd = model.model(torch.tensor([ids], device=model.lm_head.weight.device))
                add_output(model.lm_head, (hidden_btd,), hidden_btd)
                tokens += len(ids)
    finally:
        for handle in handles:
            handle.remove()
    return {name: _weights(total / tokens) for name, total in sums.items()}


def _adder(sums: dict[str, Tensor], name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def add(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
        square = inputs[0].detach().float().square().flatten(0, -2).sum(0, dtype=torch.float64)
        sums[name] = sums[name] + square if name in sums else square

    return add


def _windows(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> list[list[int]]:
    """The texts one after another, cut into windows of `length` tokens, at most `MOST_TOKENS` in all."""
    ids: list[int] = []
    for text in texts:
        ids += [*tokenizer.start_ids, *tokenizer.encode(text)]
        if len(ids) >= MOST_TOKENS:
            break
    return [ids[start : start + length] for start in range(0, min(len(ids), MOST_TOKENS), length)]


def _weights(squares: Tensor) -> NDArray[np.float32]:
    least = max(float(squares.mean()) * LEAST, 1e-30)
    weights: NDArray[np.float32] = squares.clamp(min=least).float().cpu().numpy()
    return weights
