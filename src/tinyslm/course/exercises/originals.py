"""Reference files from `lessons/`, and helpers that compare the learner's file with them."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from tinyslm.course.exercises.exercise import lessons

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], [2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5]])
"""Two texts of twelve tokens, `[b, t]`."""


def original(file: str) -> Any:
    """A file of `lessons/` as a module."""
    spec = importlib.util.spec_from_file_location("original", lessons() / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parameters(model: Any) -> int:
    """The number of trained values; a shared tensor counts once."""
    return sum(one.numel() for one in model.parameters())


def max_difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference of two tensors; infinity if their shapes differ."""
    return float((ours - theirs).abs().max()) if ours.shape == theirs.shape else float("inf")


def with_larger_weights(model: Any) -> Any:
    """The model with larger random weights, so that attention is not almost uniform."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=weight.shape[1] ** -0.5)
    return model
