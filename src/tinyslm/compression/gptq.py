"""GPTQ: rounding one column after the other, and correcting the columns after it so that the output changes least.

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: accurate post-training quantization for generative pre-trained
transformers" (2022). It minimizes the error of the layer's outputs on real inputs x: tr(D H D^T) with D the change of
the weights and H = sum x x^T.

Shape legend: o rows (outputs), i columns (inputs), c columns of one block.
"""

import torch
from torch import Tensor

from tinyslm.compression.rounding import best_scales, nearest, stored_shape
from tinyslm.model.packed import Layout, PackedTensor, pack

BLOCK = 128
DAMPING = 0.01
"""Added to the diagonal of H, as a share of its mean, for inputs that the text does not contain."""


def gptq(weight_oi: Tensor, hessian_ii: Tensor, layout: Layout) -> PackedTensor:
    """The packed matrix with nearly the least error of its outputs, for inputs with the second moments `hessian_ii`."""
    weight_oi = weight_oi.float().clone()
    rows, columns = weight_oi.shape
    damped_ii = _damped(hessian_ii)
    correction_ii = _correction(damped_ii)
    # Columns with large inputs, which are few, decide the scale.
    importance_i = (damped_ii.diagonal() / damped_ii.diagonal().mean()).float()
    size = layout.group_size or columns
    codes_oi = torch.empty_like(weight_oi)
    scales: list[Tensor] = []
    if not layout.group_size:
        scales.append(best_scales(weight_oi, layout.bits, importance_i))
    for start in range(0, columns, BLOCK):
        stop = min(columns, start + BLOCK)
        errors_oc = torch.empty(rows, stop - start)
        for column in range(start, stop):
            if layout.group_size and column % size == 0:
                # A group is scaled after the columns before it have corrected it.
                group = slice(column, column + size)
                scales.append(best_scales(weight_oi[:, group], layout.bits, importance_i[group]))
            value_o, scale_o = weight_oi[:, column], scales[-1].float()
            codes_oi[:, column] = nearest(value_o, scale_o, layout.bits)
            error_o = (value_o - codes_oi[:, column] * scale_o) / correction_ii[column, column]
            weight_oi[:, column:stop].addr_(error_o, correction_ii[column, column:stop], alpha=-1)
            errors_oc[:, column - start] = error_o
        weight_oi[:, stop:].addmm_(errors_oc, correction_ii[start:stop, stop:], alpha=-1)
    return pack(codes_oi, stored_shape(torch.stack(scales, 1), layout), layout.bits)


def _damped(hessian_ii: Tensor) -> Tensor:
    """H in fp64 with a slightly larger diagonal."""
    hessian_ii = hessian_ii.double()
    raised = (DAMPING * hessian_ii.diagonal().mean()).clamp_min(1e-8)
    return hessian_ii + torch.eye(len(hessian_ii), dtype=torch.double) * raised


def _correction(damped_ii: Tensor) -> Tensor:
    """How the error of each column corrects the ones after it: the upper Cholesky factor of H^-1."""
    inverse_ii = torch.cholesky_inverse(torch.linalg.cholesky(damped_ii))
    upper_ii: Tensor = torch.linalg.cholesky(inverse_ii, upper=True).float()
    return upper_ii
