"""What Muon does to matrices beside making them orthogonal, each in one pass over memory where there are kernels.

Matrices, gradients and momentum are in fp32; what becomes orthogonal is in bf16 or fp32.
"""

import torch
from torch import Tensor

from tinyslm.model.kernels.library import at_hand, call


def follow(gradient: Tensor, momentum: Tensor, direction: Tensor, keep: float) -> None:
    """Take the gradient into the momentum (`keep` of it stays), and write the Nesterov direction."""
    if _suits(direction, gradient, momentum):
        call("tinyslm_direction", direction.dtype, gradient, momentum, direction, direction.numel(), float(keep))
        return
    momentum.lerp_(gradient, 1 - keep)
    direction.copy_(torch.lerp(gradient, momentum, keep))


def apply(weight: Tensor, change: Tensor, shrink: float, step: float) -> None:
    """weight <- shrink * weight - step * change."""
    if _suits(change, weight):
        call("tinyslm_apply", change.dtype, weight, change, weight.numel(), float(shrink), float(step))
        return
    weight.mul_(shrink).add_(change, alpha=-step)


def _suits(multiplied: Tensor, *wide: Tensor) -> bool:
    dense = all(x.is_contiguous() for x in (multiplied, *wide))
    return dense and all(x.dtype == torch.float32 for x in wide) and at_hand(multiplied.dtype, multiplied, *wide)
