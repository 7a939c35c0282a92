import random

import pytest
from tokenizer_corpus import SCRIPTS, corpus

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.tokenizer.kinds import KINDS
from tinyslm.tokenizer.training import train_tokenizer, train_tokenizers


def test_bpe_has_the_size_asked_for_rounded_up():
    assert train_tokenizer(corpus(), vocab_size=1000).vocab_size == 1024
    assert train_tokenizer(corpus(), vocab_size=1).vocab_size == 320


@pytest.mark.parametrize("kind", [*KINDS])
def test_kind_is_kept_and_training_is_deterministic(kind):
    first, second = (train_tokenizer(iter(corpus()), kind=kind, vocab_size=640) for _ in range(2))
    assert first.kind == second.kind == kind
    assert first.sha256 == second.sha256
    assert KINDS[kind].size(600) in (first.vocab_size, None)


def test_merges_do_not_cross_words():
    tokenizer = train_tokenizer(["the cat sat. "] * 50 + corpus(), vocab_size=1024)
    ids = tokenizer.encode("the cat")
    assert [tokenizer.token_bytes(token) for token in ids] == [b"the", b" cat"]


def test_char_has_one_token_for_each_character_of_the_text():
    tokenizer = train_tokenizer(["añb漢😀"], kind="char")
    assert [tokenizer.token_bytes(token).decode() for token in tokenizer.encode("😀漢ñba")] == list("😀漢ñba")
    assert len(tokenizer.encode("字")) > 1
    assert tokenizer.vocab_size == 320


def test_char_keeps_the_most_frequent_characters_within_the_size():
    characters = [chr(0x4E00 + 97 * i) for i in range(100)]
    tokenizer = train_tokenizer(
        [character * (200 - i) for i, character in enumerate(characters)], kind="char", vocab_size=320
    )
    whole = [len(tokenizer.encode(character)) == 1 for character in characters]
    assert tokenizer.vocab_size == 320
    assert whole[0]
    assert not whole[-1]
    assert whole == sorted(whole, reverse=True)


def test_byte_reads_no_text():
    def never():
        raise AssertionError
        yield ""

    assert train_tokenizer(never(), kind="byte").vocab_size == 320


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_too_large_a_vocabulary_names_one_that_works(kind):
    texts = SCRIPTS * 2
    with pytest.raises(TinyslmError, match="4096 is too large") as caught:
        train_tokenizer(texts, kind=kind, vocab_size=4096)
    possible = int(caught.value.remedy.split("at most ")[1].split(",")[0])
    assert train_tokenizer(texts, kind=kind, vocab_size=possible).vocab_size == possible
    with pytest.raises(TinyslmError, match="too large"):
        train_tokenizer(texts, kind=kind, vocab_size=possible + 64)


def test_next_to_no_text_suggests_bytes():
    for kind in ("bpe", "unigram", "wordpiece"):
        for texts in (["tiny"], [""], []):
            with pytest.raises(TinyslmError, match='kind "byte"'):
                train_tokenizer(texts, kind=kind, vocab_size=4096)
            assert train_tokenizer(texts, kind=kind).vocab_size == KINDS[kind].smallest


def test_unknown_kind():
    with pytest.raises(TinyslmError, match='"char"'):
        train_tokenizer([], kind="chars")


def test_lone_surrogates_do_not_stop_training():
    texts = ["bad \ud800 text"] * 3 + corpus()
    for kind in KINDS:
        tokenizer = train_tokenizer(texts, kind=kind, vocab_size=384)
        assert tokenizer.encode("\ud800") == tokenizer.encode("\ufffd")


@pytest.mark.parametrize(("kind", "size"), [("bpe", 384), ("unigram", 384), ("wordpiece", 640)])
def test_one_very_long_word_trains(kind, size):
    text = "".join(random.Random(0).choices("abcdefgh", k=200_000))
    tokenizer = train_tokenizer([text], kind=kind, vocab_size=size)
    assert tokenizer.vocab_size == size
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_settings():
    assert TokenizerConfig() == TokenizerConfig(kind="bpe", vocab_size=0)
    with pytest.raises(TinyslmError, match=r'no tokenizer kind "word".*"wordpiece"'):
        build_config(TokenizerConfig, {"kind": "word"})
    with pytest.raises(TinyslmError, match="digits = four"):
        build_config(TokenizerConfig, {"digits": "four"})


def test_without_a_size_the_vocabulary_fits_the_text() -> None:
    short = train_tokenizer(["the cat sat on the mat, the rat ran to the hat"])
    assert short.vocab_size == 320
    long = train_tokenizer(f"{prefix}{stem}" for prefix in range(100) for stem in ("apple", "banana", "cherry"))
    assert 320 <= long.vocab_size < 4096
    assert long.vocab_size % 64 == 0


def test_several_sizes_at_once_are_what_each_alone_is():
    made = train_tokenizers(corpus(), [320, 640, 1 << 20])
    assert list(made) == [320, 640]
    for size, one in made.items():
        assert one.vocab_size == size
        assert one.sha256 == train_tokenizer(corpus(), vocab_size=size).sha256
