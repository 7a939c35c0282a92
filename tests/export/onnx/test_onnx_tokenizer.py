"""That onnxruntime-genai's own tokenizer gives the ids of the original, and what is said where it does not."""

import inspect
import json
from pathlib import Path

import onnxruntime_genai
import pytest

from tinyslm.core.files import write_json
from tinyslm.export.onnx.tokenizer_files import GPT2_CUTS, spelt_out, write_tokenizer
from tinyslm.export.probes import strings
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer

TEXT = [inspect.getsource(inspect)[:20_000], "Été 漢字 " * 20]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as it is before the tokenizer comes: onnxruntime-genai opens none without its configuration."""
    write_json(tmp_path / "genai_config.json", {"model": {"type": "decoder", "vocab_size": 384, "context_length": 64}})
    return tmp_path


def with_cuts(folder: Path, pre_tokenizer: dict) -> Tokenizer:
    """A tokenizer that cuts texts in another way."""
    train_tokenizer(TEXT, vocab_size=384).save(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**content, "pre_tokenizer": pre_tokenizer}))
    return Tokenizer.load(folder)


@pytest.mark.parametrize("kind", ["bpe", "char", "byte"])
def test_tokenizers_trained_here_are_read_alike(kind: str, folder: Path) -> None:
    tokenizer = train_tokenizer(TEXT, kind=kind, vocab_size=384 if kind == "bpe" else 0)
    assert write_tokenizer(tokenizer, folder, 64) == []
    assert Tokenizer.load(folder).sha256 == tokenizer.sha256


def test_smollm2s_cuts_are_written_in_words_that_genai_knows(folder: Path) -> None:
    digits = {"type": "Digits", "individual_digits": True}
    tokenizer = with_cuts(folder / "model", {"type": "Sequence", "pretokenizers": [digits, BYTE_LEVEL]})
    assert write_tokenizer(tokenizer, folder, 64) == []
    written, reader = Tokenizer.load(folder), onnxruntime_genai.Tokenizer(str(folder))
    assert written.sha256 != tokenizer.sha256
    for text in strings(800):
        assert written.encode(text) == tokenizer.encode(text)
        if "\0" not in text and "<|" not in text:
            assert reader.encode(text).tolist() == tokenizer.encode(text)


def test_cuts_that_genai_does_not_know_are_reported(folder: Path) -> None:
    digits = {"type": "Digits", "individual_digits": False}
    tokenizer = with_cuts(folder / "model", {"type": "Sequence", "pretokenizers": [digits, BYTE_LEVEL]})
    notes = write_tokenizer(tokenizer, folder, 64)
    assert len(notes) == 1
    assert "onnxruntime-genai's tokenizer gives other ids" in notes[0]
    assert Tokenizer.load(folder).sha256 == tokenizer.sha256


def test_only_what_is_known_is_spelt_out() -> None:
    plain = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    cuts = {"type": "Split", "pattern": {"Regex": GPT2_CUTS}, "behavior": "Isolated", "invert": False}
    assert spelt_out(BYTE_LEVEL)["pretokenizers"] == [cuts, {**BYTE_LEVEL, "use_regex": False}]
    for other in (None, plain, {**BYTE_LEVEL, "add_prefix_space": True}, {"type": "Metaspace"}):
        assert spelt_out(other) == other


def test_a_tokenizer_that_genai_cannot_read_at_all_is_reported(folder: Path) -> None:
    train_tokenizer(TEXT, kind="byte").save(folder / "model")
    content = json.loads((folder / "model" / "tokenizer.json").read_text())
    pieces = [[piece, -1.0] for piece, _ in sorted(content["model"]["vocab"].items(), key=lambda item: item[1])]
    content["model"] = {"type": "Unigram", "vocab": pieces, "unk_id": 0, "byte_fallback": False}
    reads = SavedAs(json.dumps(content))
    notes = write_tokenizer(reads, folder, 64)
    assert len(notes) == 1
    assert "onnxruntime-genai cannot read this tokenizer" in notes[0]


class SavedAs:
    """Stands for a tokenizer that is saved with this `tokenizer.json`."""

    def __init__(self, content: str) -> None:
        self.content = content

    def save(self, folder: Path, **_settings) -> None:
        (folder / "tokenizer.json").write_text(self.content)
        write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
