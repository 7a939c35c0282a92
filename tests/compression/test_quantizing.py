"""Quantizing a folder: what is written is what was judged, in the bits that are reported, or nothing is written."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sentences import sentences
from tinyslm.compression.config import QuantizeConfig
from tinyslm.compression.judging import divergence
from tinyslm.compression.quantizing import _judged_tokens, quantize, untied
from tinyslm.compression.report import dense
from tinyslm.compression.rounding import best_scales, plain_scales, round_to_nearest
from tinyslm.compression.schemes import plan
from tinyslm.compression.writing import State
from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import conversation_of
from tinyslm.data.example_shards import as_shards
from tinyslm.data.examples import open_examples, prepare_examples
from tinyslm.data.prepare import prepare
from tinyslm.data.shards import Shards
from tinyslm.data.used import note_data
from tinyslm.export.facts import as_counted, shape_rows
from tinyslm.inference.opening import open_engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, read_card, read_model_config, save_model, state_tensors
from tinyslm.model.packed import PackedLinear, is_packed
from tinyslm.tokenizer.tokenizer import Tokenizer


def config(**fields: object) -> QuantizeConfig:
    return QuantizeConfig(**{"judge_tokens": 500, **fields})  # type: ignore[arg-type]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(original: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory):
    """A quantized folder made with text, and the report."""
    out = tmp_path_factory.mktemp("made") / "int4"
    return out, quantize(original, out, config(data=(str(texts),), finetune=0.01))


def test_the_report_goes_from_the_original_to_what_was_written(made):
    out, report = made
    assert [row.name for row in report.rows] == ["original", "rounded to nearest", "GPTQ", "fine-tuned"]
    first, plain, better, last = report.rows
    assert first.bits_per_weight == pytest.approx(32, abs=0.01)
    assert first.judgement is None
    assert better.judgement.kl < plain.judgement.kl
    assert last.bits_per_byte == pytest.approx(first.bits_per_byte * (1 + last.judgement.change))
    assert last.speed.decode > 0 < first.speed.prefill
    assert report.finetuning.steps >= 1
    assert report.heldout_tokens > 100
    written = json.loads((out / "quantization.json").read_text())
    assert written["rows"][-1]["judgement"]["kl"] == last.judgement.kl


def test_bits_per_weight_count_every_tensor_in_the_file(original: Path, made):
    out, report = made
    with safe_open(out / "model.safetensors", "pt") as file:
        size = sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118
    row = report.rows[-1]
    assert row.bytes == size
    assert row.bits_per_weight == pytest.approx(8 * size / load_model(original).config.parameters)
    model = load_model(out, dense=True)
    table = model.model.embed_tokens.weight.numel()
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2) - table
    vectors = sum(p.numel() for p in model.parameters() if p.ndim == 1)
    shapes = 16 * (1 + 7 * model.config.depth)
    widest = 4 if report.finetuning.steps else 2  # bytes of a norm's value: bf16 where that is exact
    least = matrices * 4.5 / 8 + 2 * table + shapes
    assert least + 2 * vectors <= size <= least + widest * vectors


def test_plain_rounding_needs_no_text(original: Path, tmp_path: Path):
    report = quantize(original, tmp_path / "int8", config(scheme="int8"))
    assert [row.name for row in report.rows] == ["original", "rounded to nearest"]
    assert report.heldout_tokens == 0
    assert report.rows[-1].judgement is None
    ids = torch.randint(320, (1, 16))
    expected = load_model(original)(ids)
    assert (load_model(tmp_path / "int8", dense=True)(ids) - expected).abs().max() < 0.05 * expected.abs().max()


def test_without_text_the_inputs_that_the_model_makes_itself_count(original: Path, tmp_path: Path, tokenizer):
    """Where a few inputs of each layer are large, their columns lose least: predictions change far less."""
    model = load_model(original)
    with torch.no_grad():
        for layer in model.model.layers:
            for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                norm.weight[::16] *= 8
        model.model.norm.weight[::16] *= 8
    save_model(model, tmp_path / "source", tokenizer)
    quantize(tmp_path / "source", tmp_path / "out", config())
    windows = torch.randint(320, (16, 33), generator=torch.Generator().manual_seed(5))
    lost = divergence(model, load_model(tmp_path / "out", dense=True), windows)
    model = untied(model)
    tensors = state_tensors(model)
    for scales in (plain_scales, best_scales):
        rounded = {
            name: round_to_nearest(tensors[name], layout, scales=scales)
            for name, layout in plan(model, "int4", 32).layouts.items()
        }
        others = {name: tensor for name, tensor in tensors.items() if name not in rounded}
        assert lost < 0.8 * divergence(model, dense(model, State(rounded, others)), windows)


@pytest.mark.parametrize(("parameters", "tokens"), [(1_000_000, 50_000), (135_000_000, 7_407), (10**10, 4_096)])
def test_larger_models_are_judged_by_fewer_tokens(parameters: int, tokens: int):
    assert _judged_tokens(parameters) == tokens


def test_what_is_written_is_loaded_packed_and_generates(made):
    out, _ = made
    model = load_model(out)
    assert is_packed(model)
    assert not model.config.tied, "the table is not quantized, the output projection is"
    assert isinstance(model.lm_head, PackedLinear)
    assert load_tokenizer(out).vocab_size == 320
    completion = open_engine(out).complete("the old", SamplingSettings(max_tokens=5, seed=1))[0]
    assert completion.tokens >= 1


def test_a_table_that_was_tied_counts_once(tmp_path: Path, tokenizer):
    """The folder holds the output projection too; what is shown of it has the parameters of the original."""
    source, out = tmp_path / "source", tmp_path / "out"
    shape = ModelConfig(
        family="llama", vocab_size=tokenizer.vocab_size, dim=64, heads=2, depth=1, context=32, tied=True
    )
    save_model(Decoder(shape), source, tokenizer)
    quantize(source, out, config(scheme="int8"))
    written = read_model_config(out)
    assert written.parameters == shape.parameters + shape.vocab_size * shape.dim
    assert as_counted(out, written).parameters == shape.parameters
    assert dict(shape_rows(out))["parameters"] == dict(shape_rows(source))["parameters"]


def test_files_beside_the_weights_are_taken_over(original: Path, tmp_path: Path, tokenizer):
    source = tmp_path / "source"
    save_model(load_model(original), source, tokenizer, {"bits_per_byte": 1.5})
    (source / "LICENSE").write_text("free")
    (source / "notes.bin").write_text("left")
    quantize(source, tmp_path / "out", config())
    assert names(tmp_path / "out") == (names(source) | {"quantization.json"}) - {"notes.bin"}
    assert read_card(tmp_path / "out")["training"] == {"bits_per_byte": 1.5}


def test_a_damaged_weight_is_found_by_the_checksum(original: Path, tmp_path: Path):
    quantize(original, tmp_path / "out", config())
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight_packed"][0, 0] ^= 1
    save_file(tensors, tmp_path / "out" / "model.safetensors")
    with pytest.raises(TinyslmError, match="damaged"):
        load_model(tmp_path / "out")


def test_shards_and_separate_texts_can_be_given(original: Path, texts: Path, tokenizer, tmp_path: Path):
    shards = tmp_path / "shards"
    prepare([str(texts)], shards, tokenizer=tokenizer)
    one, two = sorted(texts.iterdir())[:2]
    report = quantize(original, tmp_path / "a", config(data=(str(shards),)))
    assert report.rows[-1].name == "GPTQ"
    report = quantize(original, tmp_path / "b", config(method="rtn", data=(str(shards),)))
    assert report.rows[-1].name == "rounded to nearest"
    assert report.heldout_tokens > 0
    report = quantize(original, tmp_path / "c", config(valid=(str(texts),)))
    assert [row.name for row in report.rows] == ["original", "rounded to nearest"]
    assert report.heldout_tokens > 0
    with pytest.raises(TinyslmError, match="validation split"):
        quantize(original, tmp_path / "d", config(data=(str(shards),), valid=(str(one), str(two))))


def test_an_interrupt_while_it_calibrates_leaves_nothing(original: Path, texts: Path, tmp_path: Path):
    def interrupt(stage: str, *_: int) -> None:
        if stage == "calibrate":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(original, tmp_path / "out", config(data=(str(texts),)), progress=interrupt)
    assert names(tmp_path) == set()


def test_a_failure_while_it_writes_leaves_nothing(original: Path, tmp_path: Path):
    def fail(stage: str, *_: int) -> None:
        if stage == "judge":
            raise RuntimeError

    with pytest.raises(RuntimeError):
        quantize(original, tmp_path / "out", config(), progress=fail)
    assert names(tmp_path) == set()


def test_widths_that_do_not_fit_are_said_and_still_load(tmp_path: Path, tokenizer):
    torch.manual_seed(0)
    shape = ModelConfig(vocab_size=320, dim=64, heads=2, ffn_dim=72, depth=1, context=32)
    save_model(Decoder(shape), tmp_path / "model", tokenizer)
    said: list[str] = []
    report = quantize(tmp_path / "model", tmp_path / "out", config(group_size=128), notify=said.append)
    assert list(report.notes) == said
    assert any("mlp.down_proj has 8 bits" in note for note in said)
    assert any("self_attn.q_proj has groups of 64" in note for note in said)
    assert is_packed(load_model(tmp_path / "out"))


def test_mistakes(original: Path, texts: Path, made, tokenizer, tmp_path: Path):
    def mistake(**fields: object) -> str:
        with pytest.raises(TinyslmError) as error:
            quantize(original, tmp_path / "out", config(**fields))
        assert not (tmp_path / "out").exists()
        return str(error.value)

    assert 'Did you mean "int4"?' in mistake(scheme="int44")
    assert "--calibrate" in mistake(method="gptq")
    assert "--data" in mistake(finetune=1)
    (tmp_path / "short.txt").write_text("the cat. " * 5)
    assert "too little text" in mistake(data=(str(tmp_path / "short.txt"),))
    other = prepare([str(texts)], tmp_path / "other").folder
    assert "another tokenizer" in mistake(data=(str(other),))
    with pytest.raises(TinyslmError, match="quantized already"):
        quantize(made[0], tmp_path / "out", config())
    with pytest.raises(TinyslmError, match="exists already"):
        quantize(original, tmp_path, config())
    with pytest.raises(TinyslmError, match="does not exist"):
        quantize(tmp_path / "nothing", tmp_path / "out", config())


def test_text_with_too_few_windows_is_refused(texts: Path, tokenizer, tmp_path: Path):
    shape = ModelConfig(vocab_size=320, dim=64, heads=2, depth=1, context=512)
    save_model(Decoder(shape), tmp_path / "model", tokenizer)
    (tmp_path / "little.txt").write_text((texts / "00.txt").read_text() + (texts / "01.txt").read_text() * 2)
    with pytest.raises(TinyslmError, match="text for GPTQ has"):
        quantize(tmp_path / "model", tmp_path / "out", config(calibrate=(str(tmp_path / "little.txt"),)))


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A run folder with a model, whose data is still to be made."""
    shutil.copytree(original, tmp_path / "run" / "model")
    return tmp_path / "run"


def rows_of(run: Path, **fields: object) -> list[str]:
    said: list[str] = []
    report = quantize(run, run.with_name("small"), config(**fields), notify=said.append)
    shutil.rmtree(run.with_name("small"))
    assert any("what the run learned from" in line for line in said) == bool(report.heldout_tokens)
    return [row.name for row in report.rows[1:]]


def test_a_run_is_rounded_for_the_text_that_it_learned_from(run: Path, tokenizer: Tokenizer, texts: Path):
    prepare([str(texts)], run / "data", tokenizer=tokenizer)
    note_data(run, run / "data")
    assert rows_of(run) == ["rounded to nearest", "GPTQ"]
    assert rows_of(run / "model", method="rtn") == ["rounded to nearest"]
    shutil.rmtree(run / "data")
    assert rows_of(run) == ["rounded to nearest"]


def test_a_run_is_rounded_for_the_conversations_that_it_learned_from(run: Path, tokenizer: Tokenizer):
    rows = [{"question": sentences(1, seed=n), "answer": sentences(2, seed=-n)} for n in range(1, 60)]
    conversations = [conversation_of(row, str(number)) for number, row in enumerate(rows)]
    for few in (2, 59):
        shutil.rmtree(run / "data", ignore_errors=True)
        prepare_examples(iter(conversations[:few]), run / "data", tokenizer, context=500)
        note_data(run, run / "data")
        assert rows_of(run) == (["rounded to nearest"] if few == 2 else ["rounded to nearest", "GPTQ"])
    train, valid, _ = open_examples(run / "data")
    shards = Shards.open(as_shards(run / "data", run / "shards"))
    for split, examples in (("train", train), ("valid", valid)):
        written = shards.split(split)
        assert written.documents == len(examples)
        last = written.documents - 1
        ids = written.document(last).tolist()
        assert ids == [*examples[last].ids.tolist(), tokenizer.eos_id]
        text = tokenizer.decode(ids[:-1], skip_special=False).encode()
        assert written.document_bytes(last) == len(text)
