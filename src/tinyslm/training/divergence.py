"""How far a student's next-token distributions are from a teacher's, without ever holding all logits.

Shape legend: n positions, d dim, c positions of one chunk, v vocab_size.
"""

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tinyslm.model.decoder import Decoder
from tinyslm.training.stage_config import DistillConfig

CHUNK_LOGITS = 2**22


def divergences(
    student: Decoder, teacher: Decoder, hidden_nd: Tensor, target_nd: Tensor, settings: DistillConfig
) -> Tensor:
    """The divergence at each position in nats, `[n]`, from what both trunks computed; differentiable for the student.

    The logits of a chunk are computed again for its gradient. If one model has more ids than the tokenizer needs, the
    distributions are those over the ids that both have.
    """
    size = min(student.config.vocab_size, teacher.config.vocab_size)

    def log_probs(model: Decoder, hidden_cd: Tensor) -> Tensor:
        return (model.logits(hidden_cd)[:, :size].float() / settings.temperature).log_softmax(-1)

    def chunk(hidden_cd: Tensor, target_cd: Tensor) -> Tensor:
        with torch.no_grad():
            log_p_cv = log_probs(teacher, target_cd)
        return generalised_jsd(log_probs(student, hidden_cd), log_p_cv, settings.beta)

    rows = max(1, CHUNK_LOGITS // size)
    parts = zip(hidden_nd.split(rows), target_nd.split(rows), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([chunk(*part) for part in parts])
    return torch.cat([checkpoint(chunk, *part, use_reentrant=False) for part in parts])


def generalised_jsd(log_q_cv: Tensor, log_p_cv: Tensor, beta: float) -> Tensor:
    """The generalised Jensen-Shannon divergence of student q and teacher p, `[c]` (Agarwal et al., 2024, equation 1).

    With the mixture m = beta p + (1 - beta) q, it is beta KL(p, m) + (1 - beta) KL(q, m); at the ends, where that
    vanishes, it is KL(p, q) for 0 and KL(q, p) for 1.
    """
    if beta == 0:
        return _kl(log_p_cv, log_q_cv)
    if beta == 1:
        return _kl(log_q_cv, log_p_cv)
    log_m_cv = torch.logaddexp(log_p_cv + math.log(beta), log_q_cv + math.log1p(-beta))
    return beta * _kl(log_p_cv, log_m_cv) + (1 - beta) * _kl(log_q_cv, log_m_cv)


def _kl(log_p_cv: Tensor, log_q_cv: Tensor) -> Tensor:
    return (log_p_cv.exp() * (log_p_cv - log_q_cv)).sum(-1)
