"""`ModelConfig`: what follows from what, and how mistakes are told."""

import pytest
from pydantic import ValidationError

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.model.config import ModelConfig


@pytest.mark.parametrize(
    ("given", "derived"),
    [
        ({}, {"family": "qwen3", "dim": 256, "heads": 4, "kv_heads": 4, "head_dim": 64, "ffn_dim": 704, "tied": False}),
        ({"dim": 384}, {"heads": 6, "kv_heads": 3, "head_dim": 64, "ffn_dim": 1024}),
        ({"dim": 32}, {"heads": 1, "head_dim": 32}),
        ({"dim": 256, "heads": 8}, {"head_dim": 32, "kv_heads": 8}),
        ({"dim": "256", "heads": "8"}, {"head_dim": 32, "kv_heads": 8}),
        ({"dim": 256, "heads": 8, "head_dim": 64, "kv_heads": 2}, {"head_dim": 64, "kv_heads": 2}),
        ({"dim": 256, "head_dim": 32}, {"heads": 8}),
        ({"family": "llama"}, {"tied": False, "qk_norm": False, "norm": "rms"}),
        ({"family": "gpt2"}, {"ffn_dim": 1024, "norm": "layer", "feed_forward": "gelu_tanh", "positions": "learned"}),
        ({"family": "tinyslm"}, {"depth": 8, "heads": 4, "context": 512, "ffn_dim": 1024, "feed_forward": "gelu"}),
    ],
)
def test_what_is_not_given_is_derived(given: dict, derived: dict) -> None:
    config = build_config(ModelConfig, given)
    assert {key: getattr(config, key) for key in derived} == derived


def test_a_resolved_config_gives_itself_again() -> None:
    config = ModelConfig(family="qwen3", dim=96, heads=6, kv_heads=3)
    assert build_config(ModelConfig, config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"dim": 250, "heads": 4}, ["dim (250)", "heads (4)"]),
        ({"dim": 100}, ["dim (100)", "head_dim (64)"]),
        ({"heads": 4, "kv_heads": 3}, ["heads (4)", "kv_heads (3)"]),
        ({"dim": 20, "heads": 4}, ["head_dim (5)", "even"]),
        ({"dpeth": 3}, ['"dpeth"', 'Did you mean "depth"?']),
        ({"dim": "wide"}, ["dim = wide", "whole number"]),
        ({"depth": 0}, ["depth = 0"]),
        ({"family": "qwen4"}, ['"qwen4"', 'Did you mean "qwen3"?']),
        ({"family": "gpt2", "positions": "rope"}, ["positions", "learned", "gpt2"]),
        ({"family": "gpt2", "heads": 4, "kv_heads": 2}, ["kv_heads", "gpt2"]),
        ({"family": "gpt2", "heads": 4, "head_dim": 32}, ["head_dim", "gpt2"]),
        ({"depth": -1, "dropout": 2, "contxt": 9}, ["3 mistakes", "depth = -1", "dropout = 2", 'mean "context"']),
    ],
)
def test_mistakes_are_told_with_what_was_given(given: dict, told: list[str]) -> None:
    with pytest.raises(TinyslmError) as caught:
        build_config(ModelConfig, given)
    for part in told:
        assert part in str(caught.value)


def test_values_do_not_change_afterwards() -> None:
    with pytest.raises(ValidationError):
        ModelConfig().dim = 3
