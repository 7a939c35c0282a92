"""The inputs of attention besides the hidden states: positions, masks and rotations.

Shape legend: b batch (1 where all sequences are alike), t new tokens, s cached and new tokens.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tinyslm.model.rotary import CosSin

Span = tuple[int, int, int]
"""One example in a packed batch: its row, its first token, and the end (exclusive)."""


class AttentionContext(NamedTuple):
    """Positions, masks and rotations of one call of the model.

    positions_bt: counted from the first token that is not padding. mask: True where a token attends to another,
    `[b, 1, t, s]`; `None` for a plain causal mask. window_mask: the same in blocks with a sliding window. cos_sin,
    local_cos_sin: the rotations of queries and keys, in most blocks, and in windowed blocks with rotary frequencies of
    their own; `None` without rotary positions. spans: the examples of packed rows; attention without a mask stays
    within each of them.
    """

    positions_bt: Tensor
    mask: Tensor | None = None
    window_mask: Tensor | None = None
    cos_sin: CosSin | None = None
    local_cos_sin: CosSin | None = None
    spans: Sequence[Span] = ()


def token_positions(length: int, padding_b: Tensor | None, device: torch.device) -> Tensor:
    """Positions of the tokens of each sequence, `[b, t]`, not counting the padding on its left."""
    positions_bt = torch.arange(length, device=device)[None]
    return positions_bt if padding_b is None else (positions_bt - padding_b[:, None]).clamp(min=0)


def causal_mask(length: int, window: int, padding_b: Tensor | None, device: torch.device) -> Tensor | None:
    """Which tokens each one attends to, `[b, 1, t, t]`; `None` for a plain causal mask.

    window: how many tokens one attends to, itself included; 0 for all. Padding attends only to itself, so that no row
    is empty (the softmax of an empty row is NaN).
    """
    if padding_b is None and not 0 < window < length:
        return None
    keys_t = torch.arange(length, device=device)
    queries_t1 = keys_t[:, None]
    allowed = keys_t <= queries_t1
    if window:
        allowed &= keys_t > queries_t1 - window
    allowed = allowed[None, None]
    if padding_b is not None:
        allowed = allowed & (keys_t >= padding_b[:, None, None, None]) | (keys_t == queries_t1)
    return allowed


def spans_of(segments_bt: Tensor) -> list[Span]:
    """The examples of packed rows. Negative segments are padding."""
    found: list[Span] = []
    for row, segments in enumerate(segments_bt.tolist()):
        start = 0
        for stop in range(1, len(segments) + 1):
            if stop == len(segments) or segments[stop] != segments[start]:
                if segments[start] >= 0:
                    found.append((row, start, stop))
                start = stop
    return found


def packed_positions(spans: Sequence[Span], shape: torch.Size, device: torch.device) -> Tensor:
    """Positions `[b, t]` that restart from 0 with each example; padding has position 0."""
    positions_bt = torch.zeros(shape, dtype=torch.int64)
    for row, start, stop in spans:
        positions_bt[row, start:stop] = torch.arange(stop - start)
    return positions_bt.to(device)


def packed_mask(segments_bt: Tensor, window: int) -> Tensor:
    """Which tokens each one attends to, `[b, 1, t, t]`: its example up to itself; padding attends only to itself.

    window: how many tokens one attends to, itself included; 0 for all.
    """
    size = segments_bt.shape[1]
    places_t = torch.arange(size, device=segments_bt.device)
    allowed = (segments_bt[:, :, None] == segments_bt[:, None, :]) & (segments_bt >= 0)[:, :, None]
    allowed &= places_t[None, :] <= places_t[:, None]
    if window:
        allowed &= places_t[None, :] > places_t[:, None] - window
    return (allowed | torch.eye(size, dtype=torch.bool, device=segments_bt.device))[:, None]
