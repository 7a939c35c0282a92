"""Folders whose tokenizer cannot be used are refused by name, never read wrong."""

import json
import random

import pytest
from tokenizer_folders import BYTES, write_folder
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers

from tinyslm.core.errors import TinyslmError
from tinyslm.tokenizer.tokenizer import Tokenizer


def changed(make, tmp_path, change):
    """A folder whose `tokenizer.json` went through `change`."""
    folder = write_folder(make, tmp_path / "model")
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(TinyslmError, match=r"tokenizer\.json does not exist"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json", "tekken.json", "m.model", "spiece.model"])
def test_a_folder_with_an_older_format(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(TinyslmError, match=name):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "null",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"model": ' + "[" * 900 + "]" * 900 + "}",
        "\x00" * 100,
        '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}',
    ],
)
def test_a_tokenizer_json_that_is_none(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TinyslmError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_absurd_nesting_inside(tmp_path):
    def nest(content):
        for _ in range(100):
            content["normalizer"] = {"type": "Sequence", "normalizers": [content["normalizer"]]}

    with pytest.raises(TinyslmError, match="nested too deeply"):
        Tokenizer.load(changed("qwen2", tmp_path, nest))


OTHER_MODELS = {
    "WordPiece": models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"),
    "WordLevel": models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"),
    "no byte fallback": models.Unigram([("<unk>", 0.0), ("a", -1.0)]),
    "not byte-level BPE": models.BPE({"a": 0, "b": 1}, []),
    "lacks 240 of the bytes": models.BPE({name: place for place, name in enumerate(BYTES[:3])}, [], byte_fallback=True),
}


@pytest.mark.parametrize("reason", OTHER_MODELS)
def test_other_models_are_refused_by_name(tmp_path, reason):
    backend = Backend(OTHER_MODELS[reason])
    backend.decoder = decoders.ByteFallback()
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "a"}')
    if reason.startswith("lacks"):
        (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<0x00>"}')
    with pytest.raises(TinyslmError, match=reason):
        Tokenizer.load(tmp_path)


def without_ascii(content):
    """The vocabulary with other names for the tokens of single ASCII characters."""
    return {
        name if len(name) > 1 or name > "~" else f"☃{name}": token for name, token in content["model"]["vocab"].items()
    }


CHANGES = {
    "dropout": ("llama2", lambda content: content["model"].update(dropout=0.1)),
    "end_of_word_suffix": ("qwen2", lambda content: content["model"].update(end_of_word_suffix="</w>")),
    "WordPiece": (
        "llama2",
        lambda content: content.update(decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}),
    ),
    "instead of ByteLevel": ("qwen2", lambda content: content.update(decoder={"type": "Fuse"})),
    "byte fallback lacks 0": (
        "llama2",
        lambda content: content.update(decoder={"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
    ),
    "unknown step": ("llama2", lambda content: content["decoder"]["decoders"][0].update(content="_")),
    "give it the id": ("phi3", lambda content: content["added_tokens"][-1].update(id=990)),
    "for 94 common bytes": ("qwen2", lambda content: content["model"].update(vocab=without_ascii(content), merges=[])),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_parts_that_are_not_understood_are_named(tmp_path, reason):
    make, change = CHANGES[reason]
    with pytest.raises(TinyslmError, match=reason):
        Tokenizer.load(changed(make, tmp_path, change))


def test_a_special_token_that_is_not_marked_as_such_is_one(tmp_path):
    """As transformers has it: what tokenizer_config.json names is special."""
    folder = changed("qwen2", tmp_path, lambda content: content["added_tokens"][2].update(special=False))
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.eos == "<|im_end|>"
    assert tokenizer.eos_id not in tokenizer.encode("a<|im_end|>")


def test_a_chat_template_that_is_no_text(tmp_path):
    folder = write_folder("qwen2", tmp_path / "model")
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe{{")
    with pytest.raises(TinyslmError, match=r"chat_template\.jinja"):
        Tokenizer.load(folder)


@pytest.mark.parametrize("ids", [{"a": 4_000_000_000}, {"a": 1}])
def test_ids_that_no_model_has(tmp_path, ids):
    folder = changed("qwen2", tmp_path, lambda content: content["model"]["vocab"].update(ids))
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] = content["added_tokens"][:1]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(TinyslmError, match=r"do not have different ids|with the id"):
        Tokenizer.load(folder)


def test_byte_level_as_a_normalizer(tmp_path):
    backend = Backend(models.BPE({symbol: byte for byte, symbol in enumerate(pre_tokenizers.ByteLevel.alphabet())}, []))
    backend.normalizer = normalizers.ByteLevel()
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<end>"])
    tokenizer = Tokenizer(backend, eos="<end>")
    assert tokenizer.decode(tokenizer.encode("naïve 漢字")) == "naïve 漢字"


@pytest.mark.parametrize("make", ["qwen2", "llama2"])
def test_mutated_files_load_or_are_refused(make, tmp_path):
    folder = write_folder(make, tmp_path / "model")
    files = {file: file.read_text() for file in folder.glob("*.json")}
    draw = random.Random(0)
    refused = 0
    for _ in range(150):
        file = draw.choice(sorted(files))
        text = files[file]
        begin, size = draw.randrange(min(len(text), 4000)), draw.randrange(1, 9)
        new = "".join(draw.choices('{}[],:"0179nulltrue.-\\e ▁', k=draw.randrange(9)))
        file.write_text(text[:begin] + new + text[begin + size :])
        try:
            tokenizer = Tokenizer.load(folder)
            tokenizer.decode(tokenizer.encode("Some text 漢"))
        except TinyslmError:
            refused += 1
        file.write_text(text)
    assert refused > 50
