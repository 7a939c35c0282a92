"""Which matrix gets which layout, and what is said where that is not what was asked for."""

import pytest
import torch

from tinyslm.compression.schemes import fitting, plan
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.packed import Layout


def decoder(**fields: object) -> Decoder:
    with torch.device("meta"):
        return Decoder(ModelConfig(vocab_size=50, context=16, depth=2, **fields))


def test_the_largest_group_that_fits():
    assert [fitting(width, 4, 128).group_size for width in (256, 192, 96)] == [128, 64, 32]
    assert fitting(256, 4, 32).group_size == 32
    assert fitting(48, 4, 128).bits == 8
    assert fitting(256, 8, 128).bits == 8


@pytest.mark.parametrize("tied", [True, False])
def test_every_linear_layer_has_a_layout_and_no_table(tied):
    model = decoder(dim=64, heads=2, ffn_dim=128, tied=tied)
    found = plan(model, "int4", 32)
    matrices = {name for name, tensor in model.state_dict().items() if tensor.ndim == 2}
    assert set(found.layouts) == matrices - {"model.embed_tokens.weight"} - ({"lm_head.weight"} if tied else set())
    assert set(found.layouts.values()) == {Layout(4, 32)}
    assert found.notes == []


def test_what_does_not_fit_is_said_once_for_all_blocks():
    found = plan(decoder(dim=64, heads=2, ffn_dim=72), "int4", 64)
    assert found.layouts["model.layers.1.mlp.down_proj.weight"].bits == 8
    assert found.notes == ["model.layers.*.mlp.down_proj has 8 bits: its width of 72 is not a multiple of 64."]


def test_mixed_gives_the_output_projection_and_values_eight_bits():
    found = plan(decoder(dim=64, heads=2, tied=False), "int4-mixed", 32).layouts
    assert found["lm_head.weight"].bits == 8
    assert found["model.layers.1.self_attn.v_proj.weight"].bits == 8
    assert found["model.layers.0.self_attn.q_proj.weight"].bits == 4


def test_matrices_that_are_stored_as_one_have_the_same_bits():
    found = plan(decoder(family="phi3", dim=64, heads=2), "int4-mixed", 32).layouts
    assert {found[f"model.layers.1.self_attn.{part}_proj.weight"].bits for part in "qkv"} == {8}
    assert found["model.layers.1.mlp.up_proj.weight"].bits == 4


def test_a_family_that_transformers_does_not_read_quantized_is_named():
    [note] = plan(decoder(family="gpt2", dim=64, heads=2), "int4", 32).notes
    assert "transformers does not read" in note
