"""The importance of a column is the mean square of what it is multiplied by."""

import numpy as np
import pytest
import torch
from gguf_models import TEXT, random_model, tokenizer_of

from tinyslm.inspection.importance import importance_matrix
from tinyslm.inspection.own_text import own_text


@pytest.mark.parametrize("tied", [True, False])
def test_it_is_the_mean_square_of_the_inputs(tied: bool) -> None:
    tokenizer = tokenizer_of("byte")
    model = random_model("llama", tokenizer.vocab_size, tied=tied)
    found = importance_matrix(model, tokenizer, [TEXT[:40], TEXT[40:60]])
    ids = torch.tensor([tokenizer.encode(TEXT[:60])])
    with torch.no_grad():
        first = model.model.layers[0].input_layernorm(model.model.embed_tokens(ids))
        last = model.model(ids)
    output = "model.embed_tokens.weight" if tied else "lm_head.weight"
    for name, inputs in (("model.layers.0.self_attn.q_proj.weight", first), (output, last)):
        np.testing.assert_allclose(found[name], inputs[0].square().mean(0), rtol=1e-4)
    assert len(found) == 4 * 7 + 1
    assert all(weights.dtype == np.float32 and (weights > 0).all() for weights in found.values())


def test_a_column_that_is_never_used_still_weighs_something() -> None:
    tokenizer = tokenizer_of("byte")
    model = random_model("llama", tokenizer.vocab_size)
    with torch.no_grad():
        model.model.layers[1].input_layernorm.weight[3] = 0
    weights = importance_matrix(model, tokenizer, [TEXT])["model.layers.1.self_attn.v_proj.weight"]
    assert 0 < weights[3] < weights.mean() / 100


def test_long_texts_are_cut_to_the_context_and_hooks_are_gone() -> None:
    tokenizer = tokenizer_of("byte")
    model = random_model("gpt2", tokenizer.vocab_size, context=16)
    assert importance_matrix(model, tokenizer, [TEXT * 4])
    assert not any(module._forward_hooks for module in model.modules())


def test_without_text_it_is_measured_on_what_the_model_writes() -> None:
    tokenizer = tokenizer_of("byte")
    model = random_model("llama", tokenizer.vocab_size)
    found = importance_matrix(model, tokenizer, [""])
    windows = own_text(model, tokenizer)
    assert windows.shape == (16, 1 + min(128, model.config.longest - 1))
    assert not set(tokenizer.stop_ids) & set(windows[:, 1:].flatten().tolist())
    assert len(windows.unique(dim=0)) == 16
    with torch.no_grad():
        inputs = model.model.layers[0].input_layernorm(model.model.embed_tokens(windows))
    weights = found["model.layers.0.self_attn.q_proj.weight"]
    np.testing.assert_allclose(weights, inputs.flatten(0, 1).square().mean(0), rtol=1e-4)
