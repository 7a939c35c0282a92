"""Capitals behind marks: nothing is lost, here and in transformers, and a stream says what the whole text says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_corpus import SCRIPTS, corpus
from tokenizers import decoders

from tinyslm.core.errors import TinyslmError
from tinyslm.export.gguf.vocabulary_keys import why_not
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.healing import cuts_of
from tinyslm.tokenizer.casing import CAPS, ESCAPE, LONGEST, MARK, CaseDecoder, decoder_steps, normalizer
from tinyslm.tokenizer.tokenizer import TextStream, Tokenizer
from tinyslm.tokenizer.training import train_tokenizer

TEXTS = [
    *SCRIPTS,
    *corpus(),
    "The HTTP server of iPHONE, ABCd A  B\nC I",
    f"{MARK}a {ESCAPE}m{CAPS} AB{MARK}CD{ESCAPE}",
    *("A" * count + " b" for count in range(LONGEST - 2, LONGEST + 3)),
]
marked_text = st.text(alphabet=st.sampled_from("abAB .\n" + MARK + CAPS + ESCAPE + "mceÉ"), max_size=40)
quick = settings(deadline=None, max_examples=200)


@pytest.fixture(scope="module", params=["bpe", "unigram", "wordpiece"])
def tokenizer(request):
    return train_tokenizer(corpus(), kind=request.param, vocab_size=832, case="marked")


def test_how_it_looks():
    assert normalizer().normalize_str("The HTTP server") == f"{MARK}the{CAPS} http server"


def test_nothing_is_lost_here_or_in_transformers(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    assert tokenizer.table.exact
    tokenizer.save(tmp_path)
    theirs, again = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.load(tmp_path)
    assert again.sha256 == tokenizer.sha256
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert again.encode(text) == ids
        assert "<|" in text or theirs(text, verbose=False)["input_ids"] == ids
        assert theirs.decode(ids) == text


def test_capitals_share_tokens_with_small_letters(tokenizer):
    small, capital = tokenizer.encode(" the function"), tokenizer.encode(" The Function")
    mark = tokenizer.encode(" A")[0]
    assert [token for token in capital if token != mark] == small


@quick
@given(text=marked_text)
def test_what_is_written_is_read(text):
    assert read(normalizer().normalize_str(text)) == text


@quick
@given(text=marked_text, cut=st.integers(0, 40))
def test_any_marks_are_read_alike_in_parts(text, cut):
    decoder, data = CaseDecoder(), text.encode()
    assert (decoder.push(data[:cut]) + decoder.push(data[cut:]) + decoder.flush()).decode() == read(text)


def read(text: str) -> str:
    return decoders.Sequence([decoders.Fuse(), *decoder_steps()]).decode([text])


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_streams_join_to_decode(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=20))
    stream = TextStream(tokenizer)
    parts = [stream.push(token) for token in ids]
    assert "".join(parts) + stream.flush() == tokenizer.decode(ids)
    if tokenizer.table.byte_level:  # others have another number of U+FFFD for bytes that are no text
        assert tokenizer.decode(ids) == tokenizer._backend.decode(ids, skip_special_tokens=False)


def test_what_does_not_go_with_it():
    tokenizer = train_tokenizer(corpus(), vocab_size=384, case="marked")
    assert "case marked" in why_not(tokenizer, tokenizer.vocab_size)
    assert cuts_of(tokenizer, tokenizer.encode("The functio")) is None
    with pytest.raises(TinyslmError, match="marks capitals"):
        Grammar.regex("[A-Z]+", tokenizer)


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_single_characters_keep_their_case(kind):
    marked, kept = (train_tokenizer(corpus(), kind=kind, case=case) for case in ("marked", "kept"))
    assert marked.sha256 == kept.sha256
