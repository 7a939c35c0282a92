"""Where tokens stand, and what they may see: what attention knows beside the vectors.

Shape legend: b batch (1 where all sequences are alike), t new tokens, s tokens with the cached past.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tinyslm.model.rotary import Turn


class Sight(NamedTuple):
    """Positions, masks and turns of one call of the model.

    positions_bt: whole numbers, counted from the first token that is no padding. mask: True where a token may see
    another, `[b, 1, t, s]`; `None` when each sees itself and everything before. window_mask: the same in blocks that
    see only a window. turn and local_turn: how queries and keys are turned, in most blocks and in windowed ones with
    rotary frequencies of their own; `None` without rotary positions.
    """

    positions_bt: Tensor
    mask: Tensor | None = None
    window_mask: Tensor | None = None
    turn: Turn | None = None
    local_turn: Turn | None = None


def positions(length: int, padding_b: Tensor | None, device: torch.device) -> Tensor:
    """Positions of the tokens of each sequence, not counting the padding at its left."""
    positions_bt = torch.arange(length, device=device)[None]
    return positions_bt if padding_b is None else (positions_bt - padding_b[:, None]).clamp(min=0)


def mask(length: int, window: int, padding_b: Tensor | None, device: torch.device) -> Tensor | None:
    """Which tokens each one sees, `[b, 1, t, t]`; `None` if each sees itself and all before.

    window: how many tokens one sees, itself included; 0 for all. Padding is seen only by itself, so that no row is
    empty (a softmax over nothing is no number).
    """
    if padding_b is None and not 0 < window < length:
        return None
    keys_t = torch.arange(length, device=device)
    queries_t1 = keys_t[:, None]
    seen = keys_t <= queries_t1
    if window:
        seen &= keys_t > queries_t1 - window
    seen = seen[None, None]
    if padding_b is not None:
        seen = seen & (keys_t >= padding_b[:, None, None, None]) | (keys_t == queries_t1)
    return seen
