"""Scores: equal to the slow way of computing them, whatever is batched and in whatever order."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.loss import document_bits, document_losses, mean_loss
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder

CONTEXT, END = 16, 7


@pytest.fixture(scope="module")
def model() -> Decoder:
    torch.manual_seed(1)
    decoder = Decoder(ModelConfig(vocab_size=50, dim=32, heads=2, depth=2, context=CONTEXT, dropout=0.3))
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return decoder


@pytest.fixture(scope="module")
def documents() -> list[tuple[list[int], int]]:
    generator = np.random.default_rng(0)
    lengths = [0, 1, 14, 15, 16, 17, 31, 32, 33, 50, 5, 5, 90]
    return [(generator.integers(0, 50, length).tolist(), 3 * length + 1) for length in lengths]


def slow_nats(model: Decoder, ids: list[int], stride: int) -> float:
    """One document, one window and one prediction at a time."""
    model.eval()
    sequence = [END, *ids, END]
    total = 0.0
    for place in range(1, len(sequence)):
        block = 0 if place <= CONTEXT else -(-(place - CONTEXT) // stride)  # which window predicts this token
        last = min(CONTEXT + block * stride, len(sequence) - 1)
        window = torch.tensor([sequence[max(0, last - CONTEXT) : place]])
        with torch.no_grad():
            total += F.cross_entropy(model(window)[0, -1:], torch.tensor(sequence[place : place + 1])).item()
    return total


@pytest.mark.parametrize("stride", [None, 1, 5, 16])
def test_scores_equal_the_slow_way(model: Decoder, documents, stride: int | None) -> None:
    score = document_losses(model, documents, end_id=END, stride=stride).score()
    nats = sum(slow_nats(model, ids, stride or CONTEXT) for ids, _ in documents)
    tokens, size = sum(len(ids) + 1 for ids, _ in documents), sum(size for _, size in documents)
    assert (score.documents, score.tokens, score.utf8_bytes) == (len(documents), tokens, size)
    assert score.loss == pytest.approx(nats / tokens, rel=1e-5)
    assert score.perplexity == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    assert score.bits_per_byte == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert score.low <= score.bits_per_byte <= score.high


def test_order_and_batches_do_not_matter(model: Decoder, documents, monkeypatch) -> None:
    wanted = document_losses(model, documents, end_id=END).score()
    backwards = document_losses(model, iter(documents[::-1]), end_id=END).score()
    monkeypatch.setattr("tinyslm.evaluation.loss.TOKENS_AT_ONCE", 1)
    one_by_one = document_losses(model, documents, end_id=END).score()
    for other in (backwards, one_by_one):
        assert other.loss == pytest.approx(wanted.loss, rel=1e-6)
        assert other.bits_per_byte == pytest.approx(wanted.bits_per_byte, rel=1e-6)
    assert (one_by_one.low, one_by_one.high) == pytest.approx((wanted.low, wanted.high), rel=1e-6)


def test_more_to_look_back_at_does_not_change_short_documents(model: Decoder, documents) -> None:
    short = [(ids, size) for ids, size in documents if len(ids) < CONTEXT]
    assert (
        document_losses(model, short, end_id=END, stride=3).score() == document_losses(model, short, end_id=END).score()
    )


def test_bf16_is_close(model: Decoder, documents) -> None:
    exact = document_losses(model, documents, end_id=END).score()
    assert document_losses(model, documents, end_id=END, dtype=torch.bfloat16).score().loss == pytest.approx(
        exact.loss, rel=0.02
    )


def test_one_document_has_no_interval(model: Decoder) -> None:
    score = document_losses(model, [([1, 2, 3], 5)], end_id=END).score()
    assert score.low == score.high == pytest.approx(score.bits_per_byte)


def test_the_interval_shrinks_with_more_documents(model: Decoder) -> None:
    generator = np.random.default_rng(3)
    many = [(generator.integers(0, 50, 10).tolist(), 20) for _ in range(400)]
    few, all_ = (document_losses(model, many[:count], end_id=END).score() for count in (25, 400))
    assert few.low < few.bits_per_byte < few.high
    assert all_.low < all_.bits_per_byte < all_.high
    assert 0.1 < (all_.high - all_.low) / (few.high - few.low) < 0.5  # about a quarter


def test_empty_documents_among_others_count_their_end(model: Decoder) -> None:
    score = document_losses(model, [([], 0), ([4, 4], 2)], end_id=END).score()
    nats = slow_nats(model, [], CONTEXT) + slow_nats(model, [4, 4], CONTEXT)
    assert score.bits_per_byte == pytest.approx(nats / math.log(2) / 2, rel=1e-5)
    assert math.isfinite(score.low)
    assert math.isfinite(score.high)


@pytest.mark.parametrize("documents", [[], [([], 0)], [([], 0), ([], 0)]])
def test_nothing_to_score_is_told(model: Decoder, documents) -> None:
    with pytest.raises(TinyslmError, match="no text to score"):
        document_losses(model, documents, end_id=END).score()


def test_the_quick_loss_is_the_mean_over_all_windows(model: Decoder, monkeypatch) -> None:
    torch.manual_seed(0)
    windows = torch.randint(0, 50, (7, CONTEXT + 1))
    model.eval()
    with torch.no_grad():
        wanted = F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten()).item()
    model.train()
    assert mean_loss(model, windows, torch.float32) == pytest.approx(wanted, rel=1e-5)
    monkeypatch.setattr("tinyslm.evaluation.loss.TOKENS_AT_ONCE", 2 * (CONTEXT + 1))
    assert mean_loss(model, windows, torch.float32) == pytest.approx(wanted, rel=1e-5)


def test_bits_of_documents_leave_out_their_ends(model: Decoder, documents) -> None:
    bits, sizes = document_bits(model, documents, start_id=END, dtype=torch.float32)
    assert sizes.tolist() == [size for _, size in documents]
    for found, (ids, _) in zip(bits, documents, strict=True):
        if len(ids) <= CONTEXT:
            with torch.no_grad():
                logits = model(torch.tensor([[END, *ids][: max(1, len(ids))]]))[0, : len(ids)]
            nats = F.cross_entropy(logits, torch.tensor(ids, dtype=torch.long), reduction="sum").item()
            assert found == pytest.approx(nats / math.log(2), abs=1e-4)
