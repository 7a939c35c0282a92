"""Muon's iteration towards orthogonal matrices in compiled code.

Shape legend: n matrices, r rows, c columns.
"""

import torch
from torch import Tensor

from tinyslm.model.kernels.library import at_hand, call

MULTIPLE = 16
"""Of this are both sides of a matrix."""


def suits(matrices_nrc: Tensor) -> bool:
    """Whether it is for these: enough of them for all threads, as each matrix is worked on by one."""
    sides = matrices_nrc.shape[1:]
    enough = len(matrices_nrc) >= torch.get_num_threads()
    return enough and not any(side % MULTIPLE for side in sides) and at_hand(matrices_nrc.dtype, matrices_nrc)


def iterate(matrices_nrc: Tensor, iterations: int, quintic: tuple[float, float, float]) -> Tensor:
    """Each matrix x, scaled to a norm of one, after so many times x <- a x + x (b g + c g g) with g = x^T x."""
    matrices_nrc = matrices_nrc.contiguous()
    found_nrc = torch.empty_like(matrices_nrc)
    call("tinyslm_orthogonal", matrices_nrc.dtype, matrices_nrc, found_nrc, *matrices_nrc.shape, iterations, *quintic)
    return found_nrc
