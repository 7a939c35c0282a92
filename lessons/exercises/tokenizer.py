"""A plugin that adds a kind of tokenizer: single bytes, and frequent pairs of bytes."""

from tinyslm.tokenizer.kinds import KINDS
from tinyslm.tokenizer.kinds.kind import TokenizerKind
from tinyslm.tokenizer.vocabulary import SMALLEST, SPECIAL_SLOTS, byte_level_backend, split_of


def learn(texts, wanted):
    """A tokenizer of `wanted.vocab_size` tokens: 256 bytes, pairs of them, `SPECIAL_SLOTS` special tokens.

    byte_level_backend takes the pairs as a list of (first byte, second byte), each of them `bytes`, and cuts texts with
    the regular expression that `split_of(wanted.digits)` gives.
    """
    pairs = []
    return byte_level_backend(pairs, split_of(wanted.digits))


KINDS.add("pairs", TokenizerKind("pairs", "single bytes, and frequent pairs of them", SMALLEST, "exact", learn))
