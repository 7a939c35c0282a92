"""Probabilities, ranks and alternatives of a text's tokens."""

import math

import numpy as np
import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.inspection.inspecting import inspect
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.shown import Token, show_token


@pytest.fixture(scope="module")
def model(byte_tokenizer) -> Decoder:
    torch.manual_seed(1)
    config = ModelConfig(vocab_size=byte_tokenizer.vocab_size, dim=32, heads=2, depth=2, context=64)
    decoder = Decoder(config)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return decoder.eval()


def test_scores_are_the_models(model, byte_tokenizer) -> None:
    ids = byte_tokenizer.encode("to be or not")
    found = inspect(model, byte_tokenizer, ids, top=5)
    with torch.inference_mode():
        logprobs_tv = model(torch.tensor([ids]))[0].log_softmax(-1).numpy()
    assert (found.layers, found.heads) == (2, 2)
    assert [one.token.text for one in found.tokens] == list("to be or not")
    assert (found.tokens[0].logprob, found.tokens[0].rank, found.tokens[0].top) == (None, None, ())
    for place, one in enumerate(found.tokens[1:]):
        row = logprobs_tv[place]
        assert one.logprob == pytest.approx(row[one.token.id], rel=1e-4)
        order = np.argsort(-row)
        assert order[one.rank - 1] == one.token.id
        assert [token.id for token, _ in one.top] == list(order[:5])
        assert sum(math.exp(logprob) for _, logprob in one.top) <= 1 + 1e-6
    assert [token.id for token, _ in found.following] == list(np.argsort(-logprobs_tv[-1])[:5])


def test_one_token_has_something_that_follows(model, byte_tokenizer) -> None:
    found = inspect(model, byte_tokenizer, [65])
    assert len(found.tokens) == 1
    assert len(found.following) == 8
    np.testing.assert_array_equal(found.attention(1, 1), [[1]])


def test_tokens_are_readable(byte_tokenizer) -> None:
    end = byte_tokenizer.eos_id
    assert show_token(byte_tokenizer, ord("a")) == Token(97, "a", "text")
    assert show_token(byte_tokenizer, 0xE2) == Token(0xE2, "E2", "bytes")
    assert show_token(byte_tokenizer, 27) == Token(27, r"\x1b", "text")
    assert show_token(byte_tokenizer, end) == Token(end, "<|endoftext|>", "special")
    assert show_token(byte_tokenizer, 99_999) == Token(99_999, "token 99999", "special")


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        ([], "There is no text to look at"),
        ([1] * 65, "The text has 65 tokens; at most 64 can be looked at at once"),
        ([1, 320], "This model has no token 320"),
        ([-1], "This model has no token -1"),
    ],
)
def test_what_cannot_be_looked_at(model, byte_tokenizer, ids, problem) -> None:
    with pytest.raises(TinyslmError, match=problem):
        inspect(model, byte_tokenizer, ids)


def test_long_texts_are_refused(byte_tokenizer) -> None:
    config = ModelConfig(vocab_size=byte_tokenizer.vocab_size, dim=16, heads=1, depth=1, context=2048)
    with pytest.raises(TinyslmError, match="The text has 600 tokens; at most 512"):
        inspect(Decoder(config).eval(), byte_tokenizer, [65] * 600)


def test_a_model_that_computes_no_numbers_is_told_of(byte_tokenizer) -> None:
    config = ModelConfig(vocab_size=byte_tokenizer.vocab_size, dim=16, heads=1, depth=1, context=32)
    model = Decoder(config).eval()
    torch.nn.init.constant_(model.model.norm.weight, torch.nan)
    with pytest.raises(TinyslmError, match="no number"):
        inspect(model, byte_tokenizer, [65, 66])
