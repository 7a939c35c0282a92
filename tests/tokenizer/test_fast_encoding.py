import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_corpus import corpus

from tinyslm.tokenizer import fast
from tinyslm.tokenizer.fast import LONGEST_SPACE, SAMPLES, cut, fast_encoding, is_safe
from tinyslm.tokenizer.tokenizer import encode_slowly
from tinyslm.tokenizer.vocabulary import SPLIT

relaxed = settings(deadline=None, max_examples=150)
ALPHABETS = ("ab '", " \n\r\t\u3000\u0085\x1c", "aA'sS1,.-", "漢字かな 。", "e\u0301🇩🇪👩\u200d", "(){}[]:=\n    #")
awkward = st.lists(
    st.one_of(
        st.text(max_size=20),
        *[st.text(alphabet=alphabet, max_size=30) for alphabet in ALPHABETS],
        st.sampled_from([*SAMPLES, *corpus()[0].splitlines()]),
        st.builds(lambda character, times: character * times, st.characters(codec="utf-8"), st.integers(1, 600)),
    ),
    max_size=4,
).map("".join)


def change(backend, **replacements):
    """A copy of a `tokenizers` object with other entries in its `tokenizer.json`; "model.x" is one of the model's."""
    from tokenizers import Tokenizer

    content = json.loads(backend.to_str())
    for key, value in replacements.items():
        if key in content:
            content[key] = value
        else:
            content["model"][key] = value
    changed = Tokenizer.from_str(json.dumps(content))
    changed.encode_special_tokens = True
    return changed


def test_all_byte_level_bpe_made_here_has_a_fast_path(tokenizer):
    assert (fast_encoding(tokenizer._backend) is not None) == (tokenizer.kind in ("bpe", "char", "byte"))


@relaxed
@given(text=awkward)
def test_ids_equal_those_of_tokenizers(tokenizer, text):
    assert tokenizer.encode(text) == encode_slowly(tokenizer._backend, text)


@given(text=st.text(alphabet=st.characters(codec=None, categories=["Cs", "Ll"])))
@relaxed
def test_lone_surrogates_become_replacement_characters_in_both(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids == encode_slowly(tokenizer._backend, text)
    assert tokenizer.decode(ids) == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@relaxed
@given(text=awkward, length=st.integers(1, 40))
def test_cutting_does_not_change_ids(bpe, text, length):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "LONG_TEXT", length)
        parts = cut(text)
    assert "".join(parts) == text
    assert [token for part in parts for token in bpe.encode(part)] == bpe.encode(text)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 300_000,
        "".join(random.Random(0).choices("abcdefghij", k=200_000)),
        " " * 1_100_000,
        (" " * (LONGEST_SPACE - 1) + "a") * 3,
        "\n" * 300_000,
        "-=" * 150_000,
        "漢字" * 60_000,
        "two words, " * 30_000,
    ],
    ids=["letter", "letters", "spaces", "nearly too many spaces", "newlines", "marks", "han", "words"],
)
def test_very_long_runs(bpe, text):
    assert bpe.encode(text) == encode_slowly(bpe._backend, text)


def test_long_white_space_is_left_to_tokenizers():
    assert is_safe(" " * (LONGEST_SPACE - 1))
    assert not is_safe("a" + " " * LONGEST_SPACE)


def test_long_texts_are_cut_into_short_parts():
    parts = cut("some words, " * 100_000)
    assert len(parts) > 10
    assert max(map(len, parts)) < fast.LONG_TEXT + 20


@pytest.mark.parametrize(
    "replacements",
    [
        {"dropout": 0.1},
        {"ignore_merges": True},
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
    ],
)
def test_anything_else_that_changes_ids_has_no_fast_path(bpe, replacements):
    assert fast_encoding(change(bpe._backend, **replacements)) is None


def test_another_split_has_no_fast_path(bpe):
    splitter = json.loads(bpe._backend.to_str())["pre_tokenizer"]
    splitter["pretokenizers"][0]["pattern"]["Regex"] = r"\s+"
    assert fast_encoding(change(bpe._backend, pre_tokenizer=splitter)) is None


def test_merges_that_tiktoken_would_read_differently_have_no_fast_path():
    """A token that `tokenizers` never reaches, tiktoken would use."""
    from tinyslm.tokenizer.vocabulary import byte_level_backend

    reachable = change(byte_level_backend([(b"a", b"b"), (b"c", b"d"), (b"ab", b"cd")]))
    assert fast_encoding(reachable) is not None
    assert fast_encoding(change(byte_level_backend([(b"a", b"b"), (b"b", b"c"), (b"a", b"bc")]))) is None
    merges = json.loads(reachable.to_str())["model"]["merges"]
    assert fast_encoding(change(reachable, merges=merges[::-1])) is None


def test_a_failed_sample_turns_the_fast_path_off(bpe, monkeypatch):
    import tiktoken

    monkeypatch.setattr(tiktoken.Encoding, "encode_ordinary", lambda self, text: [1])
    assert fast_encoding(bpe._backend) is None


def test_a_split_that_knows_other_letters_turns_the_fast_path_off(bpe, monkeypatch):
    """As between two Unicode versions, here without the letter U+1DF00, which no merge of this tokenizer contains."""
    import tiktoken

    class Other(tiktoken.Encoding):
        def __init__(self, name, *, pat_str, **rest):
            super().__init__(name, pat_str=pat_str.replace(r"\p{L}", r"[\p{L}--\x{1DF00}]"), **rest)

    monkeypatch.setattr(tiktoken, "Encoding", Other)
    ranks = fast._ranks(json.loads(bpe._backend.to_str())["model"])
    assert fast._agreeing_encoding(bpe._backend, SPLIT, ranks) is not None
    assert fast_encoding(bpe._backend) is None
