"""What is shown as attention is what the model computed: for every family, against itself and transformers."""

import threading

import numpy as np
import pytest
import torch
import transformers

from tinyslm.core.errors import TinyslmError
from tinyslm.inspection.attention import listen
from tinyslm.inspection.inspecting import attention, inspect
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.families import FAMILIES
from tinyslm.model.folder import save_model

SMALL = {"vocab_size": 320, "dim": 64, "depth": 3, "context": 48, "heads": 4}
SHAPES = {name: {"family": name} for name in sorted(FAMILIES)} | {
    "windows and shared keys": {"family": "gemma3", "depth": 7, "window": 8, "head_dim": 24, "kv_heads": 1},
    "windows in some blocks": {"family": "qwen2", "kv_heads": 2, "window": 7, "window_layers": (2,)},
    "a short context stretched": {
        "family": "llama", "context": 24, "rope_scaling": {"kind": "dynamic", "factor": 2.0}, "kv_heads": 2,
    },
    "some blocks without turns": {"family": "smollm3", "depth": 5, "unrotated_layers": (1, 3)},
    "part of each head turned": {"family": "phi3", "rotary_share": 0.75, "tied": True},
}  # fmt: skip
IDS = [int(x) for x in np.random.default_rng(3).integers(0, 320, 40)]


def made(shape: dict) -> Decoder:
    torch.manual_seed(7)
    model = Decoder(ModelConfig(**{**SMALL, **shape}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.02, 0.3)
    return model.eval()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_weights_give_what_attention_gives(shape: dict) -> None:
    model = made(shape)
    _, found = listen(model, IDS, range(model.config.depth))
    assert set(found) == set(range(model.config.depth))
    for gathering in found.values():
        weights_htt = gathering.weights()
        assert weights_htt.shape == (4, len(IDS), len(IDS))
        np.testing.assert_allclose(weights_htt.sum(-1), 1, rtol=1e-5)
        assert (np.triu(weights_htt, 1) == 0).all()
        with torch.inference_mode():
            out_thk = gathering.core(gathering.q_bthk, gathering.k_btgk, gathering.v_btgk, gathering.attn, None)[
                0
            ].numpy()
        values_gtk = gathering.v_btgk[0].transpose(0, 1).numpy()
        values_htk = np.repeat(values_gtk, 4 // len(values_gtk), 0)
        np.testing.assert_allclose((weights_htt @ values_htk).transpose(1, 0, 2), out_thk, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma3", "gpt2", "gpt_neox", "olmo2"])
def test_weights_are_those_of_transformers(family: str, tmp_path) -> None:
    model = made({"family": family, **({"window": 8, "depth": 7} if family == "gemma3" else {})})
    save_model(model, tmp_path / "model")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="eager")
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS]), output_attentions=True).attentions
    for layer in range(model.config.depth):
        for head in (0, 3):
            np.testing.assert_allclose(attention(model, IDS, layer + 1, head + 1), expected[layer][0, head], atol=2e-5)
        np.testing.assert_allclose(attention(model, IDS, layer + 1), expected[layer][0].mean(0), atol=2e-5)


def test_a_window_is_seen(byte_tokenizer) -> None:
    model = made({"family": "mistral", "window": 8})
    seen = inspect(model, byte_tokenizer, IDS).attention(1, 2)
    for row in range(len(IDS)):
        assert (seen[row, max(0, row - 7) : row + 1] > 0).all()
        assert (seen[row, : max(0, row - 7)] == 0).all()


def test_in_bf16_the_weights_are_still_exact_sums() -> None:
    model = made({"family": "qwen3", "kv_heads": 2}).to(torch.bfloat16)
    weights = attention(model, IDS, 1, 1)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_another_thread_is_not_listened_to(byte_tokenizer) -> None:
    model = made({"family": "qwen3"})
    ids_bt = torch.tensor([IDS])
    with torch.inference_mode():
        expected = model(ids_bt)
    stop, wrong = threading.Event(), []

    @torch.inference_mode()
    def generate() -> None:
        while not stop.is_set():
            if not torch.equal(model(ids_bt), expected):
                wrong.append(True)

    thread = threading.Thread(target=generate)
    thread.start()
    alone = inspect(model, byte_tokenizer, IDS[:20]).attention(2, 1)
    for _ in range(20):
        np.testing.assert_array_equal(inspect(model, byte_tokenizer, IDS[:20]).attention(2, 1), alone)
    stop.set()
    thread.join()
    assert not wrong
    assert not any("core" in vars(layer.self_attn) for layer in model.model.layers)


def test_weights_are_not_copied() -> None:
    model = made({"family": "gemma3", "window": 8})
    before = {name: tensor.data_ptr() for name, tensor in model.named_parameters()}
    _, found = listen(model, IDS, [0])
    assert {name: tensor.data_ptr() for name, tensor in model.named_parameters()} == before
    twin = found[0].core.__self__
    assert twin is not model.model.layers[0].self_attn
    assert twin.q_proj.weight.data_ptr() == before["model.layers.0.self_attn.q_proj.weight"]


@pytest.mark.parametrize(("layer", "head"), [(4, 1), (0, 1), (1, 5), (1, 0)])
def test_a_head_that_is_not_there(layer: int, head: int) -> None:
    with pytest.raises(TinyslmError, match=r"This model has no (layer|head) -?\d"):
        attention(made({"family": "llama"}), IDS, layer, head)
