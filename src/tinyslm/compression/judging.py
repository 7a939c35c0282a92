"""Quantized models compared with the original: bits per byte and KL divergence on held-out text.

Shape legend: n windows of a document, t positions, v vocab_size.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyslm.data.shards import TokenSplit
from tinyslm.evaluation.intervals import paired_change_intervals
from tinyslm.evaluation.loss import kl_divergence
from tinyslm.model.decoder import Decoder

CHUNK_LOGITS = 2**23


@dataclass(frozen=True)
class Judgement:
    """A model's predictions of held-out text, compared with the original's.

    change: of bits per byte, as a share; low and high bound its 95 % bootstrap interval over documents. kl: mean
    divergence of the next-token probabilities from the original's, in nats.
    """

    bits_per_byte: float
    change: float
    low: float
    high: float
    kl: float


@torch.no_grad()
def judge(
    original: Decoder, others: Sequence[Decoder], split: TokenSplit, end_id: int, tokens: int
) -> tuple[float, list[Judgement], int]:
    """Bits per byte of the original, a judgement of each of the others, and the number of tokens evaluated.

    About `tokens` tokens of documents spread evenly over the split are evaluated, each document after an end token and
    including its own.
    """
    models = [original, *others]
    nats: list[list[float]] = []
    kls = np.zeros(len(models))
    sizes: list[int] = []
    seen = 0
    for number in range(0, split.documents, max(1, -(-split.tokens // tokens))):
        ids = torch.from_numpy(split.document(number).astype(np.int64))
        row = np.zeros(len(models))
        for inputs_nt, targets_nt, first in _windows(ids, end_id, original.config.context):
            losses, divergences = _losses(models, inputs_nt, targets_nt, first)
            row += losses
            kls += divergences
        nats.append(row.tolist())
        sizes.append(split.document_bytes(number))
        seen += len(ids)
    bits = np.array(nats) / math.log(2)
    scores = bits.sum(0) / sum(sizes)
    changes = bits.sum(0) / bits[:, 0].sum() - 1
    bounds = paired_change_intervals(bits)
    judgements = [
        Judgement(float(scores[k]), float(changes[k]), *bounds[k], kl=float(kls[k] / seen))
        for k in range(1, len(models))
    ]
    return float(scores[0]), judgements, seen


@torch.no_grad()
def divergence(original: Decoder, other: Decoder, windows_nt: Tensor) -> float:
    """Mean KL divergence of the other model's next-token probabilities from the original's, in nats per token.

    windows_nt: token ids `[n, t]`.
    """
    _, divergences = _losses([original, other], windows_nt[:, :-1], windows_nt[:, 1:], 0)
    return float(divergences[1]) / windows_nt[:, 1:].numel()


def _windows(ids: Tensor, end_id: int, context: int) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Inputs and targets of a document that ends with its end token, and the first position to evaluate.

    Batches of consecutive whole windows, then one window that reaches back as far as the context allows.
    """
    inputs = torch.cat([torch.tensor([end_id]), ids[:-1]])
    whole = len(ids) // context * context
    for start in range(0, whole, 8 * context):
        part = slice(start, min(whole, start + 8 * context))
        yield inputs[part].view(-1, context), ids[part].view(-1, context), 0
    if whole < len(ids):
        start = max(0, len(ids) - context)
        yield inputs[start:].unsqueeze(0), ids[start:].unsqueeze(0), whole - start


def _losses(
    models: Sequence[Decoder], inputs_nt: Tensor, targets_nt: Tensor, first: int
) -> tuple[NDArray[np.float64], ...]:
    """Summed loss of each model, and its summed divergence from the first one, in nats, from position `first` on."""
    hidden = [model.model(inputs_nt)[:, first:].flatten(0, 1) for model in models]
    targets = targets_nt[:, first:].flatten()
    losses, divergences = np.zeros(len(models)), np.zeros(len(models))
    rows = max(1, CHUNK_LOGITS // models[0].config.vocab_size)
    for start in range(0, len(targets), rows):
        part = slice(start, start + rows)
        target_nv: Tensor | None = None
        for number, model in enumerate(models):
            log_p_nv = model.logits(hidden[number][part]).float().log_softmax(-1)
            losses[number] -= log_p_nv.gather(1, targets[part].unsqueeze(1)).double().sum().item()
            if target_nv is None:
                target_nv = log_p_nv
            else:
                divergences[number] += kl_divergence(target_nv, log_p_nv).double().sum().item()
    return losses, divergences
