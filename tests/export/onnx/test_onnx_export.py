"""Whole ONNX folders: what is in them, the rounded schemes, and what is said of what does not fit."""

import inspect
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime_genai
import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.protocols import greedy
from tinyslm.export.checks import Reference, judge, measure
from tinyslm.export.format import Options, Original
from tinyslm.export.onnx import ONNX
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, save_model
from tinyslm.model.loss import loss_sum
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.training import train_tokenizer

RHYME = "One, two, buckle my shoe; three, four, knock at the door; five, six, pick up sticks."


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Original:
    """A model that has learned a rhyme and where it ends, with a tokenizer of its own and an odd chat template."""
    tokenizer = train_tokenizer([inspect.getsource(inspect)], vocab_size=512)
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|im_end|>{% endfor %}[assistant]"
    torch.manual_seed(8)
    model = Decoder(ModelConfig(vocab_size=512, dim=64, depth=1, heads=2, kv_heads=1, context=128, tied=True))
    ids = torch.tensor([[tokenizer.eos_id, *tokenizer.encode(RHYME), tokenizer.eos_id]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(40):
        loss = loss_sum(model, model.model(ids[:, :-1])[0], ids[0, 1:]) / ids.shape[1]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("trained") / "model"
    save_model(model, folder, tokenizer)
    generation = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**generation, "temperature": 0.6, "top_k": "many"}))
    return Original(folder, load_model(folder), load_tokenizer(folder))


def export(original: Original, scheme: str, folder: Path):
    return ONNX.write(original, scheme, folder / scheme, Options(calibration=[RHYME]))


@pytest.fixture(scope="module", params=ONNX.schemes)
def written(request, trained: Original, tmp_path_factory):
    return request.param, export(trained, request.param, tmp_path_factory.mktemp("onnx"))


def test_every_scheme_does_what_the_original_does(written, trained: Original) -> None:
    scheme, folder = written
    with ONNX.open(folder.path, trained.source, 1) as runtime:
        found = measure(runtime, Reference(trained), ONNX.schemes[scheme])
        begun = [trained.tokenizer.eos_id, *trained.tokenizer.encode("One, two,")]
        text = trained.tokenizer.decode(greedy(runtime, begun, 80))
    assert judge(found, ONNX.schemes[scheme]) == "ok", found
    assert text == RHYME.removeprefix("One, two,")  # and ends there
    assert found.chats == found.chats_equal == 3
    assert not folder.notes


def test_a_rounded_table_is_stored_once(written) -> None:
    scheme, folder = written
    parameters = 512 * 64 + 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 192
    bits = (folder.path / "model.onnx").stat().st_size * 8 / parameters
    assert {"fp32": 32, "int8": 9, "int4": 5}[scheme] < bits < {"fp32": 40, "int8": 17, "int4": 13}[scheme]


def test_the_graph_says_nothing_of_where_it_was_made(written) -> None:
    content = (written[1].path / "model.onnx").read_bytes()
    assert str(Path.cwd()).encode() not in content
    assert b"site-packages" not in content
    assert b"tinyslm" in content


def test_genai_runs_the_folder_as_it_is(written, trained: Original) -> None:
    _, folder = written
    model = onnxruntime_genai.Model(str(folder.path))
    reader = onnxruntime_genai.Tokenizer(model)
    settings = onnxruntime_genai.GeneratorParams(model)
    settings.set_search_options(do_sample=False)  # all else as the folder says
    assert settings.get_search_options()["temperature"] == pytest.approx(0.6)
    assert settings.get_search_options()["max_length"] == 128
    generator = onnxruntime_genai.Generator(model, settings)
    generator.append_tokens(np.array([trained.tokenizer.eos_id, *reader.encode("One, two,")], np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    assert reader.decode(generator.get_sequence(0)[1:]) == RHYME  # and ended there, far from its longest
    messages = [{"role": "user", "content": "How many legs has a beetle?"}]
    text = reader.apply_chat_template(json.dumps(messages))
    assert reader.encode(text).tolist() == encode_chat(trained.tokenizer, messages, add_generation_prompt=True)


def test_batches_that_genai_pads_at_the_right(written, trained: Original) -> None:
    _, folder = written
    model = onnxruntime_genai.Model(str(folder.path))
    prompts = [trained.tokenizer.encode("One, two, buckle my"), trained.tokenizer.encode("knock at")]
    width = len(prompts[0])
    settings = onnxruntime_genai.GeneratorParams(model)
    settings.set_search_options(do_sample=False, batch_size=2, max_length=width + 6)
    generator = onnxruntime_genai.Generator(model, settings)
    padded = [ids + [trained.tokenizer.pad_id] * (width - len(ids)) for ids in prompts]
    generator.append_tokens(np.array(padded, np.int32))
    for _ in range(6):
        generator.generate_next_token()
    with ONNX.open(folder.path, trained.source, 1) as runtime:
        for row, ids in enumerate(prompts):
            assert generator.get_sequence(row).tolist()[width:] == greedy(runtime, ids, 6)


@pytest.fixture(scope="module")
def odd(trained: Original, tmp_path_factory: pytest.TempPathFactory):
    """A model whose matrices do not fit in whole blocks, in 4 bits, its weights in a file of their own."""
    torch.manual_seed(2)
    scaling = {"kind": "dynamic", "factor": 2.0}
    shape = {"dim": 40, "heads": 5, "head_dim": 8, "ffn_dim": 96, "depth": 1, "context": 64, "tied": False}
    model = Decoder(ModelConfig(family="llama", vocab_size=512, rope_scaling=scaling, **shape)).eval()
    folder = tmp_path_factory.mktemp("odd")
    original = Original(folder, model, trained.tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinyslm.export.onnx.graph.LARGEST_FILE", 1000)
        return original, export(original, "int4", folder)


def test_what_does_not_fit_is_named(odd) -> None:
    notes = odd[1].notes
    named = {note.partition(":")[0] for note in notes[1:]}
    inside = {f"model.layers.0.{part}" for part in ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj")}
    assert {"lm_head", "model.embed_tokens", *inside} < named
    assert "model.layers.0.mlp.down_proj" not in named
    assert "texts of up to 64 tokens (of 128)" in notes[0]


def test_what_does_not_fit_still_runs_with_its_weights_in_a_file_of_their_own(odd) -> None:
    original, folder = odd
    assert (folder.path / "model.onnx").stat().st_size < (folder.path / "model.onnx.data").stat().st_size
    onnx.checker.check_model(str(folder.path / "model.onnx"))
    assert json.loads((folder.path / "genai_config.json").read_text())["model"]["context_length"] == 64
    with ONNX.open(folder.path, original.source, 1) as runtime, torch.inference_mode():
        ids = list(range(100, 164))
        found = torch.from_numpy(runtime.logprobs(ids, range(len(ids))))
        expected = original.model(torch.tensor([ids]))[0].log_softmax(-1)
        assert runtime.logprobs(ids[:9], [8])[0].argmax() == greedy(runtime, ids[:9], 1)[0]
    assert (expected.exp() * (expected - found)).sum(-1).mean() < 0.01


def test_heads_that_the_runtime_cannot_have_are_refused() -> None:
    model = Decoder(ModelConfig(family="llama", vocab_size=320, dim=24, heads=2, depth=1))
    assert "heads are 12 wide" in ONNX.supports(model)
    assert not ONNX.supports(Decoder(ModelConfig(family="llama", vocab_size=320, dim=32, heads=2, depth=1)))


def test_nothing_is_said_and_nothing_left_behind_when_it_fails(
    trained: Original, tmp_path: Path, capfd, monkeypatch
) -> None:
    def fail(*_args, **_settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("onnx_ir.save", fail)
    with pytest.raises(TinyslmError, match="No space left"):
        export(trained, "fp32", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_what_is_not_installed_is_named(trained: Original, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    with pytest.raises(TinyslmError, match=r"tinyslm\[onnx\]"):
        export(trained, "fp32", tmp_path)
