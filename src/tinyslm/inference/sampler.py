"""Choosing next tokens from logits, for many rows at once.

Shape legend: w rows, v vocab_size, m = v / 32 rounded up.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyslm.inference.settings import SamplingSettings


@dataclass(frozen=True)
class SamplingBatch:
    """How each row is drawn: `[w]` each; chance: numbers from 0 up to 1 that decide. allowed: bits `[w, m]`, or `None`.

    The filters apply in the order temperature, top_k, top_p, min_p; a temperature of 0 takes the likeliest token. The
    token is the first whose cumulative probability, by ascending id, exceeds `chance`.
    """

    temperature: NDArray[np.float32]
    top_k: NDArray[np.int32]
    top_p: NDArray[np.float32]
    min_p: NDArray[np.float32]
    chance: NDArray[np.float64]
    allowed: NDArray[np.uint32] | None = None

    @classmethod
    def of(
        cls, settings: list[SamplingSettings], chance: list[float], allowed: NDArray[np.uint32] | None = None
    ) -> "SamplingBatch":
        """From the settings of each row."""
        return cls(
            np.array([0 if one.greedy else one.temperature for one in settings], np.float32),
            np.array([one.top_k for one in settings], np.int32),
            np.array([one.top_p for one in settings], np.float32),
            np.array([one.min_p for one in settings], np.float32),
            np.array(chance, np.float64),
            allowed,
        )


def draw(logits_wv: NDArray[np.float32], draws: SamplingBatch) -> NDArray[np.int32]:
    """One token for each row of logits `[w, v]`; returns ids `[w]`."""
    return np.array([_draw_one(logits_v, draws, row) for row, logits_v in enumerate(logits_wv)], np.int32)


def _draw_one(logits_v: NDArray[np.float32], draws: SamplingBatch, row: int) -> int:
    if draws.allowed is not None:
        logits_v = np.where(unpack_bits(draws.allowed[row], len(logits_v)), logits_v, -np.inf)
    if draws.temperature[row] == 0:
        return int(logits_v.argmax())
    cumulative = filtered_probabilities(logits_v, draws, row).cumsum()
    place = int(np.searchsorted(cumulative, draws.chance[row] * cumulative[-1], side="right"))
    return min(place, int(np.searchsorted(cumulative, cumulative[-1])))


def filtered_probabilities(logits_v: NDArray[np.float32], draws: SamplingBatch, row: int) -> NDArray[np.float64]:
    """Weights of one row's tokens after temperature, top-k, top-p and min-p; the likeliest always remains."""
    scaled = logits_v.astype(np.float64) / float(draws.temperature[row])
    top_k, top_p, min_p = int(draws.top_k[row]), float(draws.top_p[row]), float(draws.min_p[row])
    if 0 < top_k < len(scaled):
        scaled[scaled < np.partition(scaled, -top_k)[-top_k]] = -np.inf
    weights: NDArray[np.float64] = np.exp(scaled - scaled.max())
    if top_p < 1:
        order = np.argsort(-weights, kind="stable")
        before = weights[order].cumsum() - weights[order]
        weights[order[before >= top_p * weights.sum()]] = 0
    if min_p:
        weights[weights < min_p * weights.max()] = 0
    return weights


def log_probabilities(logits_v: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural logarithms of the softmax."""
    shifted = logits_v.astype(np.float64) - float(logits_v.max())
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result


def unpack_bits(bits_m: NDArray[np.uint32], count: int) -> NDArray[Any]:
    """Bits as `count` booleans; the lowest bit of the first word comes first."""
    words = bits_m.astype("<u4", copy=False).view(np.uint8)
    return np.unpackbits(words, bitorder="little", count=count).view(bool)
