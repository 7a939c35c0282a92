"""What attention needs besides the vectors: positions, masks and rotations.

Shape legend: b batch (1 where all sequences are alike), t new tokens, s cached and new tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tinyslm.model.rotary import CosSin


class AttentionContext(NamedTuple):
    """Positions, masks and rotations of one call of the model.

    positions_bt: counted from the first token that is not padding. mask: True where a token attends to another,
    `[b, 1, t, s]`; `None` for a plain causal mask. window_mask: the same in blocks with a sliding window. cos_sin,
    local_cos_sin: the rotations of queries and keys, in most blocks, and in windowed blocks with rotary frequencies of
    their own; `None` without rotary positions.
    """

    positions_bt: Tensor
    mask: Tensor | None = None
    window_mask: Tensor | None = None
    cos_sin: CosSin | None = None
    local_cos_sin: CosSin | None = None


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
