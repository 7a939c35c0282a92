"""What the kinds of tokenizers promise beyond what all tokenizers do."""

import subprocess
import sys

import pytest
from tokenizer_corpus import corpus

from tinyslm.core.config import build_config
from tinyslm.core.plugins import load_plugins
from tinyslm.export.gguf.vocabulary_keys import why_not
from tinyslm.inference.grammar import Grammar
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.tokenizer.kinds import KINDS
from tinyslm.tokenizer.training import train_as, train_tokenizer, train_tokenizers

NUMBERS = [f"{number} and {number * 7}; " for number in range(1000, 1040)] * 50


def pieces(tokenizer, text: str) -> list[str]:
    return [tokenizer.token_bytes(token).decode() for token in tokenizer.encode(text)]


@pytest.mark.parametrize(("digits", "longest"), [("one", 1), ("two", 2), ("three", 3), ("free", 4)])
@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_digits_are_grouped_as_asked(kind, digits, longest):
    wanted = TokenizerConfig(kind=kind, vocab_size=KINDS[kind].smallest + 512, digits=digits)
    tokenizer = train_as(wanted, [*NUMBERS, *corpus()])
    cut = pieces(tokenizer, "1003 and 7021; ")
    assert max(len(piece) for piece in cut if piece.isdigit()) == longest
    assert "".join(cut) == "1003 and 7021; "


def test_several_sizes_have_the_same_digits():
    (tokenizer,) = train_tokenizers(corpus(), [640], TokenizerConfig(digits="one")).values()
    assert tokenizer.sha256 == train_tokenizer(corpus(), vocab_size=640, digits="one").sha256


def test_the_default_is_what_it_was():
    assert KINDS["bpe"].name == TokenizerConfig().kind
    assert TokenizerConfig().identity == {"kind": "bpe", "vocab_size": 0}  # so that what is there is not made again
    split = train_tokenizer(corpus(), vocab_size=320).content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    assert r"\p{N}{1,3}" in split


@pytest.mark.parametrize("kind", ["unigram", "wordpiece"])
def test_other_processes_learn_the_same(kind):
    """Hash tables have another order there."""
    program = (
        "import inspect, textwrap, sys; from tinyslm.tokenizer.training import train_tokenizer;"
        "texts = [inspect.getsource(inspect), inspect.getsource(textwrap)];"
        f"print(train_tokenizer(texts, kind={kind!r}, vocab_size=640).sha256)"
    )
    runs = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert len({run.communicate()[0] for run in runs}) == 1
    assert not any(run.returncode for run in runs)


def test_unigram_prefers_what_is_likelier():
    tokenizer = train_tokenizer(["the cat sat on the mat. "] * 60 + corpus(), kind="unigram", vocab_size=1024)
    assert pieces(tokenizer, "the cat") == ["the", " cat"]
    scores = [score for _, score in tokenizer.content["model"]["vocab"]][256:]
    assert scores == sorted(scores, reverse=True)


def test_unigram_spells_what_it_does_not_know_in_bytes():
    tokenizer = train_tokenizer(corpus(), kind="unigram", vocab_size=320)
    assert tokenizer.encode("鵺") == list("鵺".encode())
    assert tokenizer.decode(tokenizer.encode("<0x41>鵺")) == "<0x41>鵺"


def test_wordpiece_takes_the_longest_piece_first():
    tokenizer = train_tokenizer(corpus(), kind="wordpiece", vocab_size=1024)
    vocab = tokenizer.content["model"]["vocab"]
    names = {token: name for name, token in vocab.items()}
    first, *rest = (names[token] for token in tokenizer.encode("returning"))
    assert first == max((name for name in vocab if "returning".startswith(name)), key=len)
    assert rest
    assert all(name.startswith("…") for name in rest)


@pytest.mark.parametrize("kind", [*KINDS])
def test_grammars_hold(kind):
    tokenizer = train_tokenizer(corpus(), kind=kind, vocab_size=640)
    grammar = Grammar.regex("(the|function) [0-9]+", tokenizer)
    for text, fits in (("function 12", True), ("function x", False)):
        ids = tokenizer.encode(text)
        assert (grammar.matcher(continues=False).take(ids) == len(ids)) == fits


@pytest.mark.parametrize("kind", [*KINDS])
def test_gguf_has_the_kinds_of_llama_cpp_and_names_the_others(kind):
    tokenizer = train_tokenizer(corpus(), kind=kind, vocab_size=640)
    why = why_not(tokenizer, tokenizer.vocab_size)
    assert (why == "") == (kind in ("bpe", "char", "byte"))
    assert not why or f"kind {kind}" in why


@pytest.mark.parametrize(("digits", "possible"), [("one", True), ("two", False), ("three", True), ("free", False)])
def test_gguf_has_some_groupings_of_digits(digits, possible):
    why = why_not(train_tokenizer(corpus(), vocab_size=320, digits=digits), 320)
    assert (why == "") == possible
    assert possible or "one and three" in why


def test_a_plugin_adds_a_kind(tmp_path):
    (tmp_path / "kinds_of_mine.py").write_text(
        "from dataclasses import replace\n"
        "from tinyslm.tokenizer.kinds import KINDS\n"
        'KINDS.add("mine", replace(KINDS["bpe"], name="mine", smallest=448))\n'
    )
    load_plugins((str(tmp_path / "kinds_of_mine.py"),))
    try:
        config = build_config(TokenizerConfig, {"kind": "mine", "vocab_size": "64"})
        assert config.known_size == train_as(config, corpus()).vocab_size == 448
    finally:
        del KINDS._items["mine"]
