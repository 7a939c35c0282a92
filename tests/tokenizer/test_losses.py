"""Tokenizers that lose text are measured, and refused for training unless the loss is accepted."""

import json

import pytest
from tokenizer_corpus import SCRIPTS, corpus
from tokenizer_folders import write_folder
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from tinyslm.core.errors import TinyslmError
from tinyslm.data.config import DataConfig
from tinyslm.data.prepare import prepare
from tinyslm.tokenizer.kinds import KINDS
from tinyslm.tokenizer.losses import losses, refuse
from tinyslm.tokenizer.tokenizer import TextStream
from tinyslm.tokenizer.tokenizer import Tokenizer as Ours
from tinyslm.tokenizer.training import train_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz.,"


def wordpiece(folder):
    """A tokenizer like BERT's: capitals and spaces are lost, and one token stands for all that it does not know."""
    names = ["[UNK]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    backend = Tokenizer(models.WordPiece({name: place for place, name in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece("##")
    return written(backend, folder, "[SEP]")


def unigram(folder):
    """A tokenizer like T5's: without byte fallback."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return written(backend, folder, "</s>")


def written(backend, folder, eos):
    folder.mkdir()
    backend.add_special_tokens([AddedToken(eos, special=True)])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    return Ours.load(folder)


def lost(tokenizer, *texts):
    return losses(tokenizer, [(text, tokenizer.encode(text)) for text in texts])


@pytest.mark.parametrize("kind", [*KINDS])
def test_tokenizers_made_here_are_known_to_lose_nothing(kind):
    tokenizer = train_tokenizer(corpus(), kind=kind, vocab_size=640)
    assert tokenizer.table.exact
    assert lost(tokenizer, *SCRIPTS).texts == 0  # not even measured
    assert all(tokenizer.decode(tokenizer.encode(text)) == text for text in SCRIPTS)


@pytest.mark.parametrize("make", ["qwen2", "llama2"])
def test_others_are_measured(make, tmp_path):
    tokenizer = Ours.load(write_folder(make, tmp_path / make))
    assert not tokenizer.table.exact
    found = lost(tokenizer, "plain  text", "caf\u0065\u0301", "  ", "")
    assert (found.texts, found.changed, found.lost) == (4, 0, 0)


def test_a_text_like_a_space_is_lost_by_a_tokenizer_of_sentencepiece(tmp_path):
    found = lost(Ours.load(write_folder("llama2", tmp_path / "llama2")), "a▁b", "ab")
    assert (found.changed, found.characters, found.lost) == (1, 5, 1)


@pytest.mark.parametrize("make", [wordpiece, unigram])
def test_the_share_is_reported(tmp_path, make):
    tokenizer = make(tmp_path / "made")
    found = lost(tokenizer, "ABCD  ef.gh", "abc")
    with pytest.raises(TinyslmError, match=r"\(50.00 %\), such as") as caught:
        refuse(found)
    assert found.changed == 1
    assert "--lossy" in caught.value.remedy
    assert lost(tokenizer, "abc").changed == 0
    stream = TextStream(tokenizer)
    ids = tokenizer.encode("ab cd ef")
    assert "".join(map(stream.push, ids)) + stream.flush() == tokenizer.decode(ids) == "ab cd ef"


def test_preparing_refuses_unless_the_loss_is_accepted(tmp_path):
    tokenizer = wordpiece(tmp_path / "made")
    (tmp_path / "text.txt").write_text("\n\n".join(f"A Text with CAPITALS, number {n}." for n in range(200)))
    given = ([str(tmp_path / "text.txt")], tmp_path / "shards")
    with pytest.raises(TinyslmError, match=r"loses text: .* of the characters do not come back"):
        prepare(*given, tokenizer=tokenizer, config=DataConfig(workers=1))
    assert not (tmp_path / "shards").exists()
    said: list[str] = []
    shards = prepare(*given, tokenizer=tokenizer, config=DataConfig(workers=1, lossy=True), notify=said.append)
    assert any(message.startswith("The tokenizer loses text: ") for message in said)
    assert shards.manifest["lost"]
