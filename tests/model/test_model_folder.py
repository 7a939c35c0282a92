"""Model folders: what is damaged or does not fit is refused; other libraries generate the same from them."""

import json
import random
from pathlib import Path

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.opening import open_engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import holds_conversations, load_model, load_tokenizer, save_model
from tinyslm.tokenizer.chat import CHATML
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer

WORDS = (
    "the",
    "old",
    "dog",
    "finds",
    "a",
    "red",
    "house",
    "by",
    "the",
    "river",
    "and",
    "young",
    "cats",
    "take",
    "blue",
    "trees",
    "over",
    "wide",
    "green",
    "hills",
)
TEXT = " ".join(random.Random(0).choices(WORDS, k=3000))


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_tokenizer([TEXT], vocab_size=320)


@pytest.fixture
def folder(tmp_path: Path, bpe: Tokenizer) -> Path:
    save_model(small("qwen3"), tmp_path / "model", bpe)
    return tmp_path / "model"


def small(family: str) -> Decoder:
    torch.manual_seed(2)
    model = Decoder(ModelConfig(family=family, vocab_size=320, dim=64, heads=4, depth=2, context=64))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.02, 0.25)
    return model.eval()


def change_weights(folder: Path, change) -> None:
    """Rewrite the weights as another program would, without a checksum."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    (folder / "tinyslm.json").unlink()


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2", "tinyslm"])
def test_transformers_generates_the_same_greedy_tokens(family: str, tmp_path: Path, bpe: Tokenizer) -> None:
    save_model(small(family), tmp_path / "model", bpe)
    prompt = "the old dog"
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    their_tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    inputs = their_tokenizer(prompt, return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == bpe.encode(prompt)
    with torch.no_grad():
        output = theirs.generate(**inputs, max_new_tokens=40, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    expected = [token for token in output.tolist() if token not in bpe.stop_ids]
    engine = open_engine(tmp_path / "model")
    ours = engine.complete(prompt, SamplingSettings(max_tokens=40, temperature=0))[0]
    assert ours.text == bpe.decode(expected)
    assert ours.tokens == len(output)


def test_the_tokenizer_comes_with_the_model(folder: Path, bpe: Tokenizer) -> None:
    assert load_tokenizer(folder).sha256 == bpe.sha256
    config = json.loads((folder / "config.json").read_text())
    generation = json.loads((folder / "generation_config.json").read_text())
    assert config["eos_token_id"] == bpe.eos_id
    assert generation["eos_token_id"] == list(bpe.stop_ids)
    assert config["pad_token_id"] == generation["pad_token_id"] == bpe.pad_id


def test_equal_models_give_equal_files(folder: Path, tmp_path: Path, bpe: Tokenizer) -> None:
    save_model(small("qwen3"), tmp_path / "again", bpe)
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tinyslm.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_saving_replaces_an_older_folder_at_once(folder: Path) -> None:
    (folder / "old-file").touch()
    save_model(small("llama"), folder)
    assert load_model(folder).config.family == "llama"
    assert not (folder / "old-file").exists()
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]


def test_one_changed_byte_is_noticed(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(TinyslmError, match=r"model\.safetensors is damaged.*checksum"):
        load_model(folder)


def test_weights_that_are_not_mapped_do_not_follow_the_file(folder: Path) -> None:
    mapped, copied = load_model(folder), load_model(folder, mapped=False)
    before = {name: tensor.clone() for name, tensor in mapped.state_dict().items()}
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-4096, 2)
        file.write(bytes(4096))
    assert not all(torch.equal(before[name], tensor) for name, tensor in mapped.state_dict().items())
    assert all(torch.equal(before[name], tensor) for name, tensor in copied.state_dict().items())


@pytest.mark.parametrize("card", [True, False], ids=["checksum recorded", "no checksum"])
@pytest.mark.parametrize("size", [0, 4, 200, -100])
def test_a_truncated_file_is_noticed(folder: Path, size: int, card: bool) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    if not card:
        (folder / "tinyslm.json").unlink()
    with pytest.raises(TinyslmError, match=r"model\.safetensors is damaged"):
        load_model(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(TinyslmError, match=name):
        load_model(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match="nowhere"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model_type": "qwen3", "hidden_size": -4}'])
def test_a_broken_config_is_told(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(TinyslmError, match=r"config\.json"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensors: tensors.pop("model.norm.weight"), "model.norm.weight is missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), "extra is not part"),
        (
            lambda tensors: tensors.update({"model.norm.weight": torch.zeros(63)}),
            r"model.norm.weight is \[63\] instead of \[64\]",
        ),
        (lambda tensors: tensors.clear(), r"and 22 more"),
    ],
)
def test_weights_that_do_not_fit_the_config_are_named(folder: Path, change, told: str) -> None:
    change_weights(folder, change)
    with pytest.raises(TinyslmError, match=told):
        load_model(folder)


@pytest.mark.parametrize("shape", [(64, 191), (64, 2), (64, 4)])
def test_a_stacked_tensor_of_another_shape_is_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    save_model(small("gpt2"), tmp_path / "model")
    change_weights(tmp_path / "model", lambda t: t.update({"transformer.h.0.attn.c_attn.weight": torch.zeros(shape)}))
    with pytest.raises(TinyslmError, match=r"layers\.0\.self_attn\.._proj\.weight is"):
        load_model(tmp_path / "model")


def test_half_precision_weights_load_in_the_wanted_type(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.update({n: t.bfloat16() for n, t in tensors.items()}))
    assert {parameter.dtype for parameter in load_model(folder).parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in load_model(folder, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("card", ["[]", '{"xxh3": null}', '{"training": 5}', '{"xxh3": {}, "training": []}', "{"])
def test_a_damaged_card_is_a_mistake_in_two_lines(card: str, tmp_path: Path) -> None:
    save_model(Decoder(ModelConfig(dim=32, depth=1, heads=2, vocab_size=64)), tmp_path / "model")
    (tmp_path / "model" / "tinyslm.json").write_text(card)
    with pytest.raises(TinyslmError, match=r"tinyslm\.json"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("template", "training", "holds"),
    [
        (None, {}, False),
        (CHATML, {}, True),  # nothing is known of its training
        (CHATML, {"bits_per_byte": 1.2}, False),
        (CHATML, {"loss": 1.2, "conversations": 9}, True),
        (CHATML, {"bits_per_byte": 1.2, "chat_model": True}, True),
        ("{{ messages[0].content }}", {"bits_per_byte": 1.2}, True),
    ],
)
def test_models_of_plain_text_are_known(template: str | None, training: dict, holds: bool, tmp_path, bpe) -> None:
    tokenizer = bpe if template == CHATML else without_template(bpe)
    save_model(small("qwen3"), tmp_path / "model", tokenizer, training)
    if template:
        (tmp_path / "model" / "chat_template.jinja").write_text(template)
    assert holds_conversations(tmp_path / "model") == holds
    engine = open_engine(tmp_path / "model")
    assert engine.conversations == holds
    engine.close()


def without_template(tokenizer: Tokenizer) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(tokenizer.content)))
