"""Judging: the same figures as `evaluate` gives, and none of a change where nothing was changed."""

from pathlib import Path

import pytest
import torch

from tinyslm.compression.judging import judge
from tinyslm.data.prepare import prepare
from tinyslm.evaluation.loss import document_losses
from tinyslm.model.folder import load_model


def test_the_score_is_that_of_evaluate_and_equal_models_do_not_differ(original: Path, texts: Path, tokenizer, tmp_path):
    split = prepare([str(texts)], tmp_path / "shards", tokenizer=tokenizer).split("train")
    model, other = load_model(original), load_model(original)
    with torch.no_grad():
        other.lm_head.weight.mul_(0.5)
    first, (same, worse), seen = judge(model, [load_model(original), other], split, tokenizer.eos_id, 10**6)
    documents = ((split.document(n)[:-1].tolist(), split.document_bytes(n)) for n in range(split.documents))
    score = document_losses(model, documents, end_id=tokenizer.eos_id).score()
    assert first == pytest.approx(score.bits_per_byte, rel=1e-5)
    assert seen == score.tokens == split.tokens
    assert (same.change, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-6)
    assert same.kl == pytest.approx(0, abs=1e-6)
    assert worse.bits_per_byte == pytest.approx(first * (1 + worse.change))
    assert worse.low <= worse.change <= worse.high
    assert worse.kl > 0.01


def test_fewer_tokens_are_read_evenly(original: Path, texts: Path, tokenizer, tmp_path):
    split = prepare([str(texts)], tmp_path / "shards", tokenizer=tokenizer).split("train")
    model = load_model(original)
    seen = judge(model, [model], split, tokenizer.eos_id, split.tokens // 4)[2]
    assert split.tokens / 8 < seen <= split.tokens / 3
