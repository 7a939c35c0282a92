"""How well a model predicts text: loss in nats per token, and in bits per byte so that tokenizers compare.

A document is scored as it was trained on: after an end-of-text token, up to and including its own. All of its bytes
are predicted, none is given for free.

Shape legend: n windows, t positions.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.intervals import ratio_interval
from tinyslm.model.decoder import Decoder
from tinyslm.model.loss import IGNORE, token_losses

TOKENS_AT_ONCE = 2048
SHORT_WINDOW = 256
PIECE = 256
"""Positions: the pieces of a document that are compared where there is only one document."""
PER_BYTE = "bits per byte"
"""The unit of the losses of text."""


@dataclass(frozen=True)
class Score:
    """The loss over some documents.

    loss: nats per token. bits_per_byte: bits per UTF-8 byte of text; low and high bound its 95 % bootstrap interval
    over documents (equal to it for a single document).
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    low: float
    high: float
    documents: int
    tokens: int
    utf8_bytes: int


@dataclass(frozen=True)
class DocumentLosses:
    """The losses of some documents.

    nats, tokens, sizes: `[documents]`; tokens that were predicted, sizes in UTF-8 bytes. pieces: nats and predicted
    tokens of at most `PIECE` positions each.
    """

    nats: NDArray[np.float64]
    tokens: NDArray[np.float64]
    sizes: NDArray[np.float64]
    pieces: Sequence[tuple[float, int]]

    def score(self) -> Score:
        """The summary. Raises `TinyslmError` when there is no text."""
        if not self.sizes.sum():
            raise TinyslmError("There is no text to score.", "Give documents that are not empty.")
        bits = self.nats / math.log(2)
        low, high = ratio_interval(bits, self.sizes)
        loss = float(self.nats.sum() / self.tokens.sum())
        return Score(
            loss=loss,
            perplexity=math.exp(loss),
            bits_per_byte=float(bits.sum() / self.sizes.sum()),
            low=low,
            high=high,
            documents=len(self.nats),
            tokens=int(self.tokens.sum()),
            utf8_bytes=int(self.sizes.sum()),
        )

    def per_example(self) -> dict[str, Any]:
        """Bits and bytes of each document, or of each piece of a single one: `PER_EXAMPLE` of a stage's score."""
        nats, sizes = self.nats, self.sizes
        if len(nats) == 1:
            nats = np.array([loss for loss, _ in self.pieces])
            sizes = sizes[0] * np.array([count for _, count in self.pieces]) / self.tokens[0]
        return {"losses": (nats / math.log(2)).tolist(), "weights": sizes.tolist(), "unit": PER_BYTE}


@dataclass(frozen=True)
class _Window:
    """A piece of a document: what is read, and what is to be predicted (`IGNORE` where another window did)."""

    document: int
    inputs: Sequence[int]
    targets: Sequence[int]


def document_losses(
    model: Decoder,
    documents: Iterable[tuple[Sequence[int], int]],
    *,
    end_id: int,
    start_id: int | None = None,
    stride: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> DocumentLosses:
    """The losses of documents given as token ids and their number of UTF-8 bytes; `score` sums them up.

    end_id: predicted at a document's end, and read before its beginning unless there is a `start_id`.
    stride: how far windows move; less than the context (the default) gives each token more to look back at, and
    takes longer. dtype: bfloat16 is faster and a little less exact.
    """
    assert stride is None or 0 < stride <= model.config.context, stride
    nats: list[float] = []
    tokens: list[int] = []
    sizes: list[int] = []
    pieces: list[tuple[float, int]] = []

    def windows() -> Iterator[_Window]:
        for index, (ids, size) in enumerate(documents):
            nats.append(0.0)
            tokens.append(len(ids) + 1)
            sizes.append(size)
            inputs, targets = [end_id if start_id is None else start_id, *ids], [*ids, end_id]
            yield from _windows(index, inputs, targets, model.config.context, stride or model.config.context)

    for batch in _batches(windows(), model.config.context):
        for window, loss in zip(batch, _window_losses(model, batch, end_id, dtype), strict=True):
            nats[window.document] += float(loss.sum())
            pieces += _cut(loss, window.targets)
    return DocumentLosses(np.array(nats), np.array(tokens), np.array(sizes), pieces)


def document_bits(
    model: Decoder, documents: Sequence[tuple[Sequence[int], int]], *, start_id: int, dtype: torch.dtype
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bits and UTF-8 bytes of each document, both `[documents]`; documents as in `document_losses`.

    start_id: read before each document. Unlike in `document_losses`, windows have at most `SHORT_WINDOW` tokens, as the
    texts are short, and the end of a document is not predicted: chat models are never shown where plain text ends.
    """
    nats = np.zeros(len(documents))
    context = min(model.config.context, SHORT_WINDOW)
    windows = (
        window
        for index, (ids, _) in enumerate(documents)
        for window in _windows(index, [start_id, *ids[:-1]], list(ids), context, context)
    )
    for batch in _batches(windows, context):
        for window, loss in zip(batch, _window_losses(model, batch, start_id, dtype), strict=True):
            nats[window.document] += loss.sum()
    return nats / math.log(2), np.array([float(size) for _, size in documents])


def mean_loss(model: Decoder, windows: torch.Tensor, dtype: torch.dtype) -> float:
    """The loss in nats per token over windows `[n, context + 1]` of a token stream, for a quick look while training."""
    total = 0.0
    for part in windows.split(max(1, TOKENS_AT_ONCE // windows.shape[1])):
        total += _losses(model, part[:, :-1], part[:, 1:], dtype).sum().item()
    return total / windows[:, 1:].numel()


def kl_divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p, q) in nats over the last axis, from log-probabilities of one shape.

    Tokens with a probability below e^-60 in p add nothing, and may be minus infinity in both.
    """
    excess = torch.where(log_p > -60, log_p - log_q, 0.0)
    return (log_p.exp() * excess).sum(-1)


def _windows(document: int, inputs: Sequence[int], targets: list[int], context: int, stride: int) -> Iterator[_Window]:
    """Windows over one document that predict every token once."""
    predicted = 0
    while predicted < len(targets):
        stop = min(len(targets), predicted + (stride if predicted else context))
        start = max(0, stop - context)
        seen = [IGNORE] * (predicted - start)
        yield _Window(document, inputs[start:stop], seen + targets[predicted:stop])
        predicted = stop


def _batches(windows: Iterator[_Window], context: int) -> Iterator[list[_Window]]:
    """Groups of windows of similar length, from at most a few thousand windows at a time."""
    size = max(1, TOKENS_AT_ONCE // context)
    pool: list[_Window] = []
    for window in windows:
        pool.append(window)
        if len(pool) == 64 * size:
            yield from _cut_pool(pool, size)
            pool = []
    yield from _cut_pool(pool, size)


def _cut_pool(pool: list[_Window], size: int) -> Iterator[list[_Window]]:
    pool.sort(key=lambda window: len(window.inputs))
    for start in range(0, len(pool), size):
        yield pool[start : start + size]


def _cut(losses_t: NDArray[np.float64], targets: Sequence[int]) -> Iterator[tuple[float, int]]:
    """The nats and predicted tokens of the pieces of a window in which anything is predicted."""
    for start in range(0, len(targets), PIECE):
        if count := sum(target != IGNORE for target in targets[start : start + PIECE]):
            yield float(losses_t[start : start + PIECE].sum()), count


def _window_losses(model: Decoder, batch: list[_Window], pad_id: int, dtype: torch.dtype) -> list[NDArray[np.float64]]:
    """The loss in nats of each position of each window; 0 where nothing is predicted."""
    length = max(len(window.inputs) for window in batch)
    inputs = torch.tensor([[*window.inputs, *[pad_id] * (length - len(window.inputs))] for window in batch])
    targets = torch.tensor([[*window.targets, *[IGNORE] * (length - len(window.targets))] for window in batch])
    device = model.device
    return list(_losses(model, inputs.to(device), targets.to(device), dtype).cpu().double().numpy())


@torch.no_grad()
def _losses(model: Decoder, inputs_nt: torch.Tensor, targets_nt: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The loss of every position, [n, t], in evaluation mode."""
    model.eval()
    with torch.autocast(inputs_nt.device.type, dtype, enabled=dtype != torch.float32):
        hidden = model.model(inputs_nt).flatten(0, 1)
        return token_losses(model, hidden, targets_nt.flatten()).view(targets_nt.shape)
