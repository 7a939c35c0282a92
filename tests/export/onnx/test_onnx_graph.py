"""The graph of each family in ONNX Runtime, and its folder in onnxruntime-genai, against the Decoder it came from."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from grouping import grouped
from tinyslm.evaluation.protocols import greedy
from tinyslm.export.format import Options, Original
from tinyslm.export.onnx import ONNX, _length_notes
from tinyslm.export.onnx.graph import cache_names
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.training import train_tokenizer

SMALL = {"dim": 64, "depth": 1, "heads": 4, "context": 48, "vocab_size": 320}
# A graph is traced from the `Decoder`, so there is one case for each thing that a decoder can do, not for each family:
# llama is in mistral, granite in granitemoehybrid, olmo2 in olmo3, gpt2's positions are in gpt_neo, its biases in phi.
CASES = {
    "qwen3": {"qk_norm": True},
    "mistral": {
        "heads": 2,  # of 32 values
        "window": 6,
        "rope_scaling": {"kind": "llama3", "factor": 4.0, "original_context": 12},
    },
    "qwen2": {
        "depth": 2,
        "dim": 96,
        "window": 9,
        "window_layers": (0,),
        "rope_scaling": {"kind": "yarn", "factor": 2.0, "original_context": 24},
    },
    "smollm3": {"depth": 2, "unrotated_layers": (1,)},
    "granitemoehybrid": {
        "unrotated_layers": (0,),
        "embedding_scale": 3.0,
        "attention_scale": 0.2,
        "residual_scale": 0.7,
        "logit_divisor": 2.0,
    },
    "olmo3": {"window": 6, "window_layers": (0,)},
    "gemma2": {"window": 6, "window_layers": (0,), "attention_cap": 1.5, "logit_cap": 8.0},
    "gemma3": {"depth": 2, "window": 6, "window_layers": (0,), "local_rope_theta": 500.0, "logit_cap": 8.0},
    "phi": {},
    "phi3": {
        "window": 9,
        "rotary_share": 0.5,
        "rope_scaling": {
            "kind": "longrope",
            "factor": 2.0,
            "original_context": 48,
            "short_factor": (1.0, 1.5, 2.0, 3.0),
            "long_factor": (2.0, 3.0, 4.0, 5.0),
        },
    },
    "gpt_neox": {},
    "gpt_neo": {"window": 6, "window_layers": (0,)},
}


def small_model(family: str, **changes) -> Decoder:
    """A model in which everything matters: weights of some size, norms and biases that are neither one nor zero."""
    torch.manual_seed(7)
    model = Decoder(ModelConfig(**{**SMALL, **grouped(family, 4), "family": family, **changes}))
    for name, parameter in model.named_parameters():
        around = 1.0 if "norm" in name and name.endswith("weight") and not model.config.norm_offset else 0.0
        torch.nn.init.normal_(parameter, around, 0.2)
    return model.eval()


class Exported:
    """A model, its folder, and its graph in ONNX Runtime."""

    def __init__(self, model: Decoder, folder: Path) -> None:
        self.model = model
        self.original = Original(folder, model, train_tokenizer([], kind="byte"))
        self.written = ONNX.write(self.original, "fp32", folder / "exported", Options())
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(self.written.path / "model.onnx"), settings)

    def no_past(self, batch: int) -> list[np.ndarray]:
        config = self.model.config
        return [np.zeros((batch, config.kv_heads, 0, config.head_dim), np.float32)] * (2 * config.depth)

    def run(self, ids: torch.Tensor, mask: torch.Tensor, past: list[np.ndarray]) -> tuple[torch.Tensor, list]:
        names = cache_names(self.model.config.depth, "past_key_values")
        inputs = {"input_ids": ids.numpy(), "attention_mask": mask.numpy(), **dict(zip(names, past, strict=True))}
        logits, *present = self.session.run(None, inputs)
        return torch.from_numpy(logits), present


@pytest.fixture(scope="module", params=CASES)
def exported(request, tmp_path_factory) -> Exported:
    return Exported(small_model(request.param, **CASES[request.param]), tmp_path_factory.mktemp(request.param))


def test_longrope_is_for_texts_of_the_original_context() -> None:
    factors = {"short_factor": (1.0,) * 8, "long_factor": (2.0,) * 8}
    scaling = {"kind": "longrope", "factor": 2.0, "original_context": 24, **factors}
    model = small_model("phi3", rope_scaling=scaling)
    assert ONNX.longest(model) == 24
    (note,) = _length_notes(model)
    assert note.endswith("texts of up to 24 tokens (of 48)")


@torch.inference_mode()
def test_a_whole_sequence_without_a_past(exported: Exported) -> None:
    ids = torch.randint(0, 320, (2, 40))
    logits, present = exported.run(ids, torch.ones_like(ids), exported.no_past(2))
    torch.testing.assert_close(logits, exported.model(ids), atol=1e-4, rtol=0)
    config = exported.model.config
    assert [cache.shape for cache in present] == [(2, config.kv_heads, 40, config.head_dim)] * (2 * config.depth)
    assert not exported.written.notes


@torch.inference_mode()
def test_a_padded_batch_through_the_cache_in_steps_of_any_size(exported: Exported) -> None:
    ids, padding = torch.randint(0, 320, (3, 40)), torch.tensor([0, 7, 2])
    mask = (torch.arange(40) >= padding[:, None]).long()
    past, rows = exported.no_past(3), []
    for start, stop in ((0, 9), (9, 10), (10, 11), (11, 20), *((at, at + 1) for at in range(20, 40))):
        logits, past = exported.run(ids[:, start:stop], mask[:, :stop], past)
        rows.append(logits)
    found, expected = torch.cat(rows, 1), exported.model(ids, padding_b=padding)
    assert found.isfinite().all()
    torch.testing.assert_close(found * mask[..., None], expected * mask[..., None], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_both_runtimes_go_through_the_cache(exported: Exported) -> None:
    ids = torch.randint(0, 256, (1, 12))
    with ONNX.open(exported.written.path, exported.original.source, 1) as runtime:
        found = runtime.logprobs(ids[0].tolist(), range(12))
        tokens = greedy(runtime, ids[0].tolist(), 30)
    expected = exported.model(ids)[0].log_softmax(-1)
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=0)
    whole = torch.tensor([[*ids[0].tolist(), *tokens]])
    best = exported.model(whole)[0, 11:].argmax(-1).tolist()
    assert tokens == best[: len(tokens)]
    assert len(tokens) == 30 or best[len(tokens)] in exported.original.tokenizer.stop_ids
