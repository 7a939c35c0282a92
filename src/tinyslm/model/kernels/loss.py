"""Cross-entropy for training in compiled code.

Shape legend: c positions of a chunk, v vocab_size.
"""

import torch
from torch import Tensor

from tinyslm.model.kernels.library import at_hand, call


def suits(logits: Tensor) -> bool:
    """Whether it is for these logits."""
    return at_hand(logits.dtype, logits)


def turn_into_gradients(logits_cv: Tensor, targets_c: Tensor) -> Tensor:
    """The loss of each position in nats, `[c]`; the logits become its gradients. Negative targets give 0."""
    losses_c = torch.empty(len(logits_cv), dtype=torch.float32)
    call("tinyslm_cross_entropy", logits_cv.dtype, logits_cv, targets_c.contiguous(), losses_c, *logits_cv.shape)
    return losses_c
