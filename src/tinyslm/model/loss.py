"""Cross-entropy of the output projection, without ever holding all logits.

The loss of a chunk of positions and its gradient come from the same logits, so these are computed once and dropped:
memory stays at one chunk instead of `positions * vocab_size`.

Shape legend: n positions, d dim, v vocab_size, c positions of one chunk.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tinyslm.model.decoder import Decoder
from tinyslm.model.kernels import loss as kernel

IGNORE = -100
CHUNK_LOGITS = 2**22
"""Logits held at a time: 16 MiB in fp32."""
FEWEST_ROWS = 512
"""So many positions are computed at once even if they have more logits: each chunk goes over the whole projection."""


def token_losses(model: Decoder, hidden_nd: Tensor, targets_n: Tensor) -> Tensor:
    """The loss of each position in nats, `[n]`, without gradients; zero where the target is `IGNORE`."""
    losses = [
        F.cross_entropy(model.logits(hidden_cd).float(), targets_c, reduction="none", ignore_index=IGNORE)
        for hidden_cd, targets_c in _chunks(hidden_nd, targets_n, model.config.vocab_size)
    ]
    return torch.cat(losses)


def loss_sum(model: Decoder, hidden_nd: Tensor, targets_n: Tensor) -> Tensor:
    """The summed cross-entropy in nats of the model's logits against the targets; `IGNORE`d ones do not count.

    Differentiable. Under autocast the products run in the autocast type; the softmax is always taken in fp32.
    """
    config = model.config
    if config.head_bias or config.logit_cap:
        return _sum_by_autograd(model, hidden_nd, targets_n)
    if torch.is_autocast_enabled(hidden_nd.device.type):
        hidden_nd = hidden_nd.to(torch.get_autocast_dtype(hidden_nd.device.type))
    if config.logit_divisor != 1:
        hidden_nd = hidden_nd / config.logit_divisor
    total: Tensor = HeadLoss.apply(hidden_nd, model.lm_head.weight, targets_n)  # type: ignore[no-untyped-call]
    return total


def _sum_by_autograd(model: Decoder, hidden_nd: Tensor, targets_n: Tensor) -> Tensor:
    """For heads that are more than a product; a chunk's logits are computed again for its gradient."""

    def chunk_loss(hidden_cd: Tensor, targets_c: Tensor) -> Tensor:
        logits_cv = model.logits(hidden_cd).float()
        return F.cross_entropy(logits_cv, targets_c, reduction="sum", ignore_index=IGNORE)

    total = hidden_nd.new_zeros((), dtype=torch.float32)
    for hidden_cd, targets_c in _chunks(hidden_nd, targets_n, model.config.vocab_size):
        total = total + checkpoint(chunk_loss, hidden_cd, targets_c, use_reentrant=False)
    return total


class HeadLoss(torch.autograd.Function):
    """Output projection and summed cross-entropy in one, chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, hidden_nd: Tensor, head_vd: Tensor, targets_n: Tensor) -> Tensor:
        """The loss; both gradients are computed here, while a chunk's logits are at hand."""
        head = head_vd.to(hidden_nd.dtype)
        d_hidden_nd = torch.empty_like(hidden_nd)
        d_head_vd = torch.zeros_like(head_vd, dtype=torch.float32)
        total = hidden_nd.new_zeros((), dtype=torch.float32)
        start = 0
        for hidden_cd, targets_c in _chunks(hidden_nd, targets_n, head_vd.shape[0]):
            chunk_loss, d_logits_cv = _loss_and_gradient(hidden_cd @ head.t(), targets_c)
            total += chunk_loss
            d_hidden_nd[start : start + len(targets_c)] = d_logits_cv @ head
            d_head_vd += d_logits_cv.t() @ hidden_cd
            start += len(targets_c)
        ctx.save_for_backward(d_hidden_nd, d_head_vd.to(head_vd.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, d_total: Tensor) -> tuple[Tensor, Tensor, None]:
        """The stored gradients, times that of the loss."""
        d_hidden_nd, d_head_vd = ctx.saved_tensors
        return d_hidden_nd * d_total.to(d_hidden_nd.dtype), d_head_vd * d_total, None


def _loss_and_gradient(logits_cv: Tensor, targets_c: Tensor) -> tuple[Tensor, Tensor]:
    """The summed loss of a chunk, and d loss / d logits = softmax - one_hot(target); the logits are not kept."""
    if kernel.suits(logits_cv):
        return kernel.turn_into_gradients(logits_cv, targets_c).sum(), logits_cv
    counted_c1 = (targets_c != IGNORE).unsqueeze(1)
    index_c1 = targets_c.clamp_min(0).unsqueeze(1)
    log_p_cv = torch.log_softmax(logits_cv, dim=-1, dtype=torch.float32)
    loss = -(log_p_cv.gather(1, index_c1) * counted_c1).sum()
    d_logits_cv = log_p_cv.exp_().scatter_add_(1, index_c1, log_p_cv.new_full((), -1.0).expand_as(index_c1))
    return loss, d_logits_cv.mul_(counted_c1).to(logits_cv.dtype)


def chunk_rows(vocab_size: int) -> int:
    """Positions whose logits are held at a time."""
    return max(FEWEST_ROWS, CHUNK_LOGITS // vocab_size)


def _chunks(hidden_nd: Tensor, targets_n: Tensor, vocab_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    rows = chunk_rows(vocab_size)
    return zip(hidden_nd.split(rows), targets_n.split(rows), strict=True)
