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
from tinyslm.model.packed import PackedLinear

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


def log_probs(model: Decoder, hidden_nd: Tensor, targets_n: Tensor, temperature: float = 1.0) -> Tensor:
    """The log-probability of each target at a temperature, fp32 `[n]`; every target counts. Differentiable.

    The gradient of a position's log-probability with respect to its hidden state is kept, and not its logits: they are
    computed again only where the output projection is trained.
    """
    config = model.config
    if config.head_bias or config.logit_cap:
        parts = [
            checkpoint(_chunk_log_probs, model, hidden_cd, targets_c, temperature, use_reentrant=False)
            for hidden_cd, targets_c in _chunks(hidden_nd, targets_n, config.vocab_size)
        ]
        return torch.cat(parts)
    if torch.is_autocast_enabled(hidden_nd.device.type):
        hidden_nd = hidden_nd.to(torch.get_autocast_dtype(hidden_nd.device.type))
    if config.logit_divisor * temperature != 1:
        hidden_nd = hidden_nd / (config.logit_divisor * temperature)
    found: Tensor = HeadLogProbs.apply(hidden_nd, _head(model, hidden_nd.dtype), targets_n)  # type: ignore[no-untyped-call]
    return found


def _chunk_log_probs(model: Decoder, hidden_cd: Tensor, targets_c: Tensor, temperature: float) -> Tensor:
    return -F.cross_entropy(model.logits(hidden_cd).float() / temperature, targets_c, reduction="none")


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
    total: Tensor = HeadLoss.apply(hidden_nd, _head(model, hidden_nd.dtype), targets_n)  # type: ignore[no-untyped-call]
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
        d_head_vd = torch.zeros_like(head_vd, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        total = hidden_nd.new_zeros((), dtype=torch.float32)
        start = 0
        for hidden_cd, targets_c in _chunks(hidden_nd, targets_n, head_vd.shape[0]):
            losses_c, d_logits_cv = _losses_and_gradients(hidden_cd @ head.t(), targets_c)
            total += losses_c.sum()
            d_hidden_nd[start : start + len(targets_c)] = d_logits_cv @ head
            if d_head_vd is not None:
                d_head_vd += d_logits_cv.t() @ hidden_cd
            start += len(targets_c)
        ctx.save_for_backward(d_hidden_nd, None if d_head_vd is None else d_head_vd.to(head_vd.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, d_total: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """The stored gradients, times that of the loss."""
        d_hidden_nd, d_head_vd = ctx.saved_tensors
        return d_hidden_nd * d_total.to(d_hidden_nd.dtype), None if d_head_vd is None else d_head_vd * d_total, None


class HeadLogProbs(torch.autograd.Function):
    """Output projection and the targets' log-probabilities in one, chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, hidden_nd: Tensor, head_vd: Tensor, targets_n: Tensor) -> Tensor:
        """`[n]`; keeps the gradient of each with respect to its own hidden state, where one is wanted."""
        head = head_vd.to(hidden_nd.dtype)
        unit_nd = torch.empty_like(hidden_nd) if ctx.needs_input_grad[0] else None
        found_n = hidden_nd.new_empty(len(hidden_nd), dtype=torch.float32)
        start = 0
        for hidden_cd, targets_c in _chunks(hidden_nd, targets_n, head_vd.shape[0]):
            losses_c, d_logits_cv = _losses_and_gradients(hidden_cd @ head.t(), targets_c)
            part = slice(start, start + len(targets_c))
            found_n[part] = -losses_c
            if unit_nd is not None:
                unit_nd[part] = -(d_logits_cv @ head)
            start = part.stop
        trained = ctx.needs_input_grad[1]
        ctx.save_for_backward(unit_nd, *((hidden_nd, head_vd, targets_n) if trained else ()))
        return found_n

    @staticmethod
    def backward(ctx: Any, d_found_n: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Each kept gradient times its position's; the projection's gradient from logits that are computed again."""
        unit_nd, *rest = ctx.saved_tensors
        d_head_vd = None
        if ctx.needs_input_grad[1]:
            hidden_nd, head_vd, targets_n = rest
            head, start = head_vd.to(hidden_nd.dtype), 0
            d_head_vd = torch.zeros_like(head_vd, dtype=torch.float32)
            for hidden_cd, targets_c in _chunks(hidden_nd, targets_n, head_vd.shape[0]):
                _, d_logits_cv = _losses_and_gradients(hidden_cd @ head.t(), targets_c)
                weights_c1 = d_found_n[start : start + len(targets_c), None].to(hidden_cd.dtype)
                d_head_vd -= d_logits_cv.t() @ (hidden_cd * weights_c1)
                start += len(targets_c)
            d_head_vd = d_head_vd.to(head_vd.dtype)
        d_hidden_nd = None if unit_nd is None else unit_nd * d_found_n[:, None].to(unit_nd.dtype)
        return d_hidden_nd, d_head_vd, None


def _head(model: Decoder, dtype: torch.dtype) -> Tensor:
    """The matrix of the output projection, `[v, d]`, with its trained rows; as `dtype` where it is packed."""
    head: Any = model.lm_head
    matrix: Tensor = head.dense(dtype) if isinstance(head, PackedLinear) else head.weight
    return matrix if head.adapter is None else head.adapter.merged(matrix)


def _losses_and_gradients(logits_cv: Tensor, targets_c: Tensor) -> tuple[Tensor, Tensor]:
    """The losses of a chunk, `[c]`, and d loss / d logits = softmax - one_hot(target); the logits are not kept."""
    if kernel.suits(logits_cv):
        return kernel.turn_into_gradients(logits_cv, targets_c), logits_cv
    counted_c1 = (targets_c != IGNORE).unsqueeze(1)
    index_c1 = targets_c.clamp_min(0).unsqueeze(1)
    log_p_cv = torch.log_softmax(logits_cv, dim=-1, dtype=torch.float32)
    losses_c = -(log_p_cv.gather(1, index_c1) * counted_c1).squeeze(1)
    d_logits_cv = log_p_cv.exp_().scatter_add_(1, index_c1, log_p_cv.new_full((), -1.0).expand_as(index_c1))
    return losses_c, d_logits_cv.mul_(counted_c1).to(logits_cv.dtype)


def chunk_rows(vocab_size: int) -> int:
    """Positions whose logits are held at a time."""
    return max(FEWEST_ROWS, CHUNK_LOGITS // vocab_size)


def _chunks(hidden_nd: Tensor, targets_n: Tensor, vocab_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    rows = chunk_rows(vocab_size)
    return zip(hidden_nd.split(rows), targets_n.split(rows), strict=True)
