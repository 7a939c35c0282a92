"""Files of ranks, as tiktoken writes them."""

import base64

import pytest
import tiktoken
from tokenizer_corpus import SCRIPTS, corpus

from tinyslm.core.errors import TinyslmError
from tinyslm.tokenizer.ranks import SPLITS
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer

# As tiktoken spells the split of cl100k_base.
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)


@pytest.fixture(scope="module")
def ranks():
    """Of a trained tokenizer; single bytes come last to first, as the order of tiktoken's is another one, too."""
    made = train_tokenizer(corpus(), vocab_size=640)
    return {made.token_bytes(token): 255 - token if token < 256 else token for token in range(640 - 16)}


def write(folder, name, ranks):
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()]
    (folder / f"{name}.tiktoken").write_bytes(b"".join(lines))
    return folder


def test_ids_equal_those_of_tiktoken(tmp_path, ranks):
    ours = Tokenizer.load(write(tmp_path, "cl100k_base", ranks))
    theirs = tiktoken.Encoding("x", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    for text in (*SCRIPTS, *corpus(), "a \n\n  b\r\n \t c  ", "\n\n"):
        assert ours.encode(text) == theirs.encode_ordinary(text)
        assert ours.decode(ours.encode(text)) == text
    assert ours.table.exact
    assert (ours.vocab_size, ours.eos) == (640, "<|endoftext|>")


@pytest.mark.parametrize("name", [*SPLITS])
def test_every_name_has_a_split(tmp_path, ranks, name):
    assert Tokenizer.load(write(tmp_path, name, ranks)).kind == "bpe"


def test_an_unknown_split_is_refused(tmp_path, ranks):
    with pytest.raises(TinyslmError, match="known are files with the names cl100k_base"):
        Tokenizer.load(write(tmp_path, "mine", ranks))


@pytest.mark.parametrize("content", [b"", b"YQ==", b"YQ== x", b"!!! 1", b"YQ== 0\nYg== 2\n", b"YQ== 0\n", b"\xff 1"])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "gpt2.tiktoken").write_bytes(content)
    with pytest.raises(TinyslmError, match=r"gpt2\.tiktoken is not a file of ranks"):
        Tokenizer.load(tmp_path)


def test_a_token_that_nothing_makes_is_refused(tmp_path, ranks):
    odd = dict(ranks) | {b"qzqzqz": len(ranks)}
    with pytest.raises(TinyslmError, match="no tokens make the token"):
        Tokenizer.load(write(tmp_path, "gpt2", odd))
