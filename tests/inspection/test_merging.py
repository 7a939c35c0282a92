"""Merges one by one: they end in the tokenizer's own ids, and are learned as the trainer learns them."""

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers

from tinyslm.data.standard_library import documentation
from tinyslm.inspection.merging import learn_merges, merging, rules_of
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer
from tinyslm.tokenizer.vocabulary import add_special, split_of

TEXTS = documentation()[:12]


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_tokenizer(TEXTS, vocab_size=512)


@pytest.mark.parametrize(
    "text", ["The statement is a list.", "aaaaaaa  the the", "naïve 日本 \U0001f600\n\n12345", "x"]
)
def test_merges_end_in_the_ids_of_the_tokenizer(bpe: Tokenizer, text: str) -> None:
    found = merging(bpe, text)
    words = [list(word) for word in found.words]
    assert bytes(one for word in words for one in word) == text.encode()
    for step in found.merges:
        before = sum(map(len, words))
        for word in words:
            place = 0
            while place < len(word) - 1:
                if word[place : place + 2] == [step.left, step.right]:
                    word[place : place + 2] = [step.token]
                place += 1
        assert before - sum(map(len, words)) == step.places > 0
        assert step.token == 256 + step.rank, "ids of trained tokenizers are in the order of the merges"
    assert [one for word in words for one in word] == bpe.encode(text)


def test_characters_without_a_token_are_spelled_in_bytes() -> None:
    pieces = ["▁", *"thec", "▁t", "he", "▁the"]
    vocab = {name: number for number, name in enumerate([*(f"<0x{byte:02X}>" for byte in range(256)), *pieces])}
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he")]
    backend = Backend(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    tokenizer = Tokenizer(add_special(backend, len(vocab)))
    found = merging(tokenizer, "the é the")
    assert [(step.rank, step.places) for step in found.merges] == [(0, 2), (1, 2), (2, 2)]
    assert list("é".encode()) == found.words[0][5:7]
    assert rules_of(tokenizer) is None, "its text is not split as in known tokenizers"


@pytest.mark.parametrize("kind", ["unigram", "wordpiece", "byte"])
def test_other_kinds_have_no_merges(kind: str) -> None:
    assert merging(train_tokenizer(TEXTS, kind=kind, vocab_size=576), "The statement") is None


def test_merges_are_learned_as_the_trainer_learns_them(bpe: Tokenizer) -> None:
    steps = learn_merges(TEXTS, split_of("three"), 20, 3)
    learned = [pairs[0].left + pairs[0].right for pairs in steps]
    assert learned == [bpe.token_bytes(256 + number) for number in range(20)]
    assert all(pairs[0].count >= pairs[1].count >= pairs[2].count for pairs in steps)


def test_a_text_without_repetitions_has_no_merges() -> None:
    assert learn_merges(["abc"], split_of("three"), 20, 3) == []
