"""The shape of a model with a given number of parameters."""

import math
from collections.abc import Iterator

from tinyslm.model.config import ModelConfig

WIDTHS = (*range(16, 96, 4), *range(96, 4097, 32))
WIDTH_PER_BLOCK = 48
"""The preferred ratio of width to depth; between 24 and 96 it hardly affects the score (docs/LOG.md)."""
LEAST_PER_BLOCK = 10
FFN_RATIO, MOST_FFN_RATIO = 8 / 3, 6
STEP = 8  # of the feed-forward's width
HEAD = 32  # the preferred width of a head in narrow models, and
WIDE_HEAD = 64  # in those of at least 256, where it divides the width
WITHIN = 0.02
"""Largest relative difference to the number of parameters asked for."""


def shape_of(parameters: int, vocab_size: int, *, context: int = 256) -> ModelConfig | None:
    """The shape with this vocabulary whose number of parameters is within 2 % of `parameters`.

    Of all of these, the one whose ratios of width to depth and of the feed-forward's width to the model's are nearest
    to the usual ones. `None` if there is none: the embeddings take too many parameters, or `parameters` are too few for
    any model.
    """
    found = [one for one in _shapes(parameters, vocab_size, context) if _off(one, parameters) <= WITHIN]
    return min(found, key=lambda one: _oddness(one) + _off(one, parameters), default=None)


def table_parameters(shape: ModelConfig) -> int:
    """How many of a model's parameters are its token embedding and its output projection."""
    return shape.vocab_size * shape.dim * (1 if shape.tied else 2)


def _shapes(parameters: int, vocab_size: int, context: int) -> Iterator[ModelConfig]:
    """Shapes of about this size, of every width that has some."""
    for dim in WIDTHS:
        shape = {"vocab_size": vocab_size, "dim": dim, "context": context, "heads": _heads(dim)}
        one, two = (ModelConfig(**shape, depth=depth) for depth in (1, 2))
        block = two.parameters - one.parameters
        outside = one.parameters - block
        if outside >= parameters:
            return
        rest = block - 3 * dim * one.ffn_dim  # attention and norms
        best = round((parameters - outside) / block)
        for depth in {best - 1, best, best + 1}:
            if not 1 <= depth <= max(3, dim // LEAST_PER_BLOCK):
                continue
            inner = STEP * round((parameters - outside - depth * rest) / (3 * dim * depth) / STEP)
            if 0 < inner <= MOST_FFN_RATIO * dim:
                yield ModelConfig(**shape, depth=depth, ffn_dim=inner)


def _heads(dim: int) -> int:
    """The number of heads whose width is even and nearest to the preferred one."""
    preferred = WIDE_HEAD if dim >= 4 * WIDE_HEAD and dim % WIDE_HEAD == 0 else HEAD
    possible = [heads for heads in range(1, dim // 2 + 1) if dim % (2 * heads) == 0]
    return min(possible, key=lambda heads: abs(math.log(dim / heads / preferred)))


def _off(shape: ModelConfig, parameters: int) -> float:
    return abs(shape.parameters / parameters - 1)


def _oddness(shape: ModelConfig) -> float:
    width = abs(math.log(shape.dim / shape.depth / WIDTH_PER_BLOCK))
    return width + 2 * abs(math.log(shape.ffn_dim / shape.dim / FFN_RATIO))
