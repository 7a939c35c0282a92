import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.core.errors import TinyslmError
from tinyslm.tokenizer.tokenizer import TextStream, Tokenizer
from tinyslm.tokenizer.vocabulary import special_tokens

relaxed = settings(deadline=None, max_examples=100)


@relaxed
@given(text=st.text())
def test_round_trip_is_exact(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert not set(ids) & set(tokenizer.special_ids.values())


@relaxed
@given(data=st.data())
def test_decode_equals_the_one_of_tokenizers_for_any_ids(bpe, data):
    ids = data.draw(st.lists(st.integers(0, bpe.vocab_size - 1)))
    assert bpe.decode(ids) == bpe._backend.decode(ids, skip_special_tokens=False)
    assert bpe.decode(ids, skip_special=True) == bpe._backend.decode(ids, skip_special_tokens=True)


@relaxed
@given(data=st.data())
def test_stream_joins_to_decode_and_never_takes_back(bpe, data):
    ids = data.draw(st.lists(st.integers(0, bpe.vocab_size - 1)))
    stream = TextStream(bpe)
    parts = [stream.push(token) for token in ids]
    assert "".join(parts) + stream.flush() == bpe.decode(ids)


def test_stream_waits_for_the_whole_character(tokenizer):
    stream = TextStream(tokenizer)
    parts = [stream.push(byte) for byte in "a😀".encode()]
    assert parts == ["a", "", "", "", "😀"]
    assert stream.push(0xF0) == ""
    assert stream.flush() == "\ufffd"


def test_layout_of_the_vocabulary(tokenizer):
    assert [tokenizer.token_bytes(i) for i in range(256)] == [bytes([i]) for i in range(256)]
    assert tokenizer.vocab_size % 64 == 0
    special = tokenizer.special_ids
    assert list(special.values()) == list(range(tokenizer.vocab_size - len(special), tokenizer.vocab_size))
    assert list(special)[:4] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    assert len(special) >= 16
    assert tokenizer.eos_id == special["<|endoftext|>"]
    assert tokenizer.pad_id == special["<|pad|>"]
    assert tokenizer.stop_ids == (special["<|endoftext|>"], special["<|im_end|>"])


@pytest.mark.parametrize(("ordinary", "specials"), [(256, 64), (304, 16), (305, 79), (4080, 16)])
def test_special_tokens_fill_up_to_a_multiple_of_64(ordinary, specials):
    names = special_tokens(ordinary)
    assert len(names) == len(set(names)) == specials


def test_special_names_in_text_are_text(tokenizer):
    text = "a<|endoftext|><|im_start|>user\n<|pad|>"
    ids = tokenizer.encode(text)
    assert not set(ids) & set(tokenizer.special_ids.values())
    assert tokenizer.decode(ids) == text


def test_skip_special_and_unknown_ids(bpe):
    ids = [*bpe.encode("one"), bpe.eos_id, bpe.vocab_size + 5, -1]
    assert bpe.decode(ids) == "one<|endoftext|>"
    assert bpe.decode(ids, skip_special=True) == "one"
    assert bpe.token_bytes(bpe.vocab_size) == b""


def test_batch_equals_single_with_any_number_of_threads(bpe):
    texts = ["one", "", "two words", "漢字"]
    expected = [bpe.encode(text) for text in texts]
    for threads in (1, 2, 3, 8):
        assert bpe.encode_batch(texts, threads=threads) == expected
    assert bpe.encode_batch([], threads=2) == []


def test_ascii_ids_of_the_char_tokenizer_are_bytes(tokenizer):
    if tokenizer.kind in ("char", "byte"):
        assert tokenizer.encode("plain ASCII\n") == list(b"plain ASCII\n")


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "made", context=512)
    loaded = Tokenizer.load(tmp_path / "made")
    for name in ("kind", "vocab_size", "eos_id", "pad_id", "stop_ids", "special_ids", "sha256", "chat_template"):
        assert getattr(loaded, name) == getattr(tokenizer, name), name
    assert loaded.encode("Ein façade text") == tokenizer.encode("Ein façade text")
    assert json.loads((tmp_path / "made/tokenizer_config.json").read_text())["model_max_length"] == 512


def test_pickles_for_other_processes(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode("a <|pad|> naïve") == tokenizer.encode("a <|pad|> naïve")
    assert copy.sha256 == tokenizer.sha256


def test_sha256_does_not_depend_on_layout_but_on_merges(bpe, tokenizer, tmp_path):
    bpe.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=None))
    assert Tokenizer.load(tmp_path).sha256 == bpe.sha256
    assert (tokenizer.sha256 == bpe.sha256) == (tokenizer.kind == "bpe")


def test_chat_template_of_older_folders(bpe, tmp_path):
    bpe.save(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    assert Tokenizer.load(tmp_path).chat_template is None
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": "{{ messages }}"}))
    assert Tokenizer.load(tmp_path).chat_template == "{{ messages }}"


def test_missing_folder(tmp_path):
    with pytest.raises(TinyslmError, match="nowhere does not exist"):
        Tokenizer.load(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 1}', '"text"'])
def test_damaged_tokenizer_json_is_named(bpe, tmp_path, content):
    bpe.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TinyslmError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "3"])
def test_damaged_tokenizer_config_is_named(bpe, tmp_path, content):
    bpe.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(TinyslmError, match=r"tokenizer_config\.json"):
        Tokenizer.load(tmp_path)


def test_other_kinds_of_tokenizer_are_refused(tmp_path):
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    Backend(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(TinyslmError, match="not byte-level BPE"):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_without_an_end_token_is_refused(bpe, tmp_path):
    bpe.save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["added_tokens"][0]["content"] = "<|other|>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(TinyslmError, match="eos_token"):
        Tokenizer.load(tmp_path)
