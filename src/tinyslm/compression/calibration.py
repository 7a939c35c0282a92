"""GPTQ of a whole model on text, block by block.

Shape legend: n windows, b windows at once, t tokens of a window, d dim, i inputs of a layer.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from tinyslm.compression.gptq import gptq
from tinyslm.data.documents import Progress, silent
from tinyslm.hardware.device import pick_dtype
from tinyslm.model.decoder import Decoder
from tinyslm.model.packed import PackedTensor

TOKENS_AT_ONCE = 8192


@torch.no_grad()
def calibrate(
    original: Decoder, nearest: Mapping[str, PackedTensor], windows_nt: Tensor, progress: Progress = silent
) -> dict[str, PackedTensor]:
    """The model's matrices rounded by GPTQ, in the layouts of `nearest`, on windows of text.

    progress: receives the bytes of the weights that are done.
    """
    with _bf16_products():
        return _calibrated(original, nearest, windows_nt, progress)


def _calibrated(
    original: Decoder, nearest: Mapping[str, PackedTensor], windows_nt: Tensor, progress: Progress
) -> dict[str, PackedTensor]:
    model = copy.deepcopy(original)
    rounded = dict(nearest)
    done, total = 0, sum(parameter.nbytes for parameter in model.parameters())
    calibration = Calibration(model, windows_nt)
    for block, moments in calibration.blocks():
        for place, moments_ii in moments.items():
            linear = block.get_submodule(place)
            assert isinstance(linear, nn.Linear)
            name = _name(model, linear)
            rounded[name] = gptq(linear.weight, moments_ii, nearest[name].layout)
            linear.weight.copy_(rounded[name].dense())
            done += linear.weight.nbytes
            progress("calibrate", done, total)
    name = "lm_head.weight"
    rounded[name] = gptq(original.lm_head.weight, calibration.head_moments(), nearest[name].layout)
    progress("calibrate", total, total)
    return rounded


@contextmanager
def _bf16_products() -> Iterator[None]:
    """Multiply matrices in bf16, summed in fp32, where the processor is faster at that; it suffices for moments."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    dtype = pick_dtype(torch.device("cpu"))
    try:
        # The setting above acts only on some processors; autocast covers the layers, but not the moments.
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _name(model: Decoder, module: nn.Module) -> str:
    return next(f"{name}.weight" for name, other in model.named_modules() if other is module)


class Calibration:
    """The activations of a text, which pass through a model block by block.

    After each step of `blocks()` they pass through that block as it is then, so the blocks after it see the rounding
    error of this one and can correct it.
    """

    def __init__(self, model: Decoder, windows_nt: Tensor) -> None:
        self._model = model.eval()
        size = min(len(windows_nt), max(1, TOKENS_AT_ONCE // windows_nt.shape[1]))
        windows_nt = windows_nt[: len(windows_nt) // size * size]  # batches of one shape share their mask
        self._batches: list[Tensor] = []
        self._rest: tuple[Any, ...] = ()
        for part in windows_nt.split(size):
            self._enter(part)

    def blocks(self) -> Iterator[tuple[nn.Module, dict[str, Tensor]]]:
        """Each block, and for each linear layer in it the sum of x x^T over its inputs, [i, i]."""
        for block in self._model.model.layers:
            yield block, self._moments(block)
            self._batches = [block(x_btd, *self._rest) for x_btd in self._batches]

    def head_moments(self) -> Tensor:
        """The sum of x x^T over the inputs of the output projection, [d, d]; to be called after the last block."""
        total = torch.zeros(self._model.config.dim, self._model.config.dim)
        for x_btd in self._batches:
            add_moments(total, self._model.model.norm(x_btd))
        return total

    def _enter(self, ids_bt: Tensor) -> None:
        """Record the inputs of the first block for these tokens."""

        def record(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._batches.append(inputs[0])
            self._rest = inputs[1:]
            raise _EnoughError

        hook = self._model.model.layers[0].register_forward_pre_hook(record)
        try:
            with suppress(_EnoughError):
                self._model.model(ids_bt)
        finally:
            hook.remove()

    def _moments(self, block: nn.Module) -> dict[str, Tensor]:
        layers = {name: module for name, module in block.named_modules() if isinstance(module, nn.Linear)}
        moments: dict[str, Tensor] = {}
        firsts: dict[str, str] = {}  # each layer: the first one with the same input, such as that of queries and keys
        inputs: dict[str, Tensor] = {}

        def add(module: nn.Linear, x: Tensor, name: str) -> None:
            if name not in firsts:
                firsts[name] = next((first for first, other in inputs.items() if other is x), name)
            if firsts[name] == name:
                inputs[name] = x
                add_moments(moments.setdefault(name, torch.zeros(module.in_features, module.in_features)), x)

        hooks = [
            module.register_forward_pre_hook(lambda module, inputs, name=name: add(module, inputs[0], name))
            for name, module in layers.items()
        ]
        try:
            for x_btd in self._batches:
                block(x_btd, *self._rest)
        finally:
            for hook in hooks:
                hook.remove()
        return {name: moments[firsts[name]] for name in layers}


def add_moments(total_ii: Tensor, x: Tensor) -> None:
    """Add x x^T of every vector of `[..., i]`."""
    x_ni = x.flatten(0, -2).float()
    total_ii.addmm_(x_ni.t(), x_ni)


class _EnoughError(Exception):
    """Ends the forward pass at the first block."""
