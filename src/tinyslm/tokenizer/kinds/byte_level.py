"""Byte-level BPE: "bpe", and "char" and "byte", which are the same with merges of another origin, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tinyslm.tokenizer.kinds.kind import DEFAULT, TokenizerKind, Wanted, learned_merges, used
from tinyslm.tokenizer.vocabulary import SMALLEST, SPECIAL_SLOTS, byte_level_backend, byte_symbols, split_of

if TYPE_CHECKING:
    import tokenizers

Merges = Sequence[tuple[bytes, bytes]]


def _bpe(texts: Iterable[str], wanted: Wanted) -> tokenizers.Tokenizer:
    merges, characters = bpe_merges(texts, (wanted.vocab_size or DEFAULT) - 256 - SPECIAL_SLOTS, wanted)
    count = used(wanted, len(merges), 256, characters, "repeated byte sequences")
    return byte_level_backend(merges[:count], split_of(wanted.digits), marked=wanted.marked)


def bpe_merges(texts: Iterable[str], most: int, wanted: Wanted) -> tuple[Merges, int]:
    """At most `most` merges, the most frequent first, and the number of characters read."""
    merges, characters = learned_merges(texts, most, split_of(wanted.digits), marked=wanted.marked)
    byte_of = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    return [
        (bytes(byte_of[symbol] for symbol in left), bytes(byte_of[symbol] for symbol in right))
        for left, right in merges
    ], characters


def _char(texts: Iterable[str], wanted: Wanted) -> tokenizers.Tokenizer:
    """Merges build each character from its UTF-8 bytes, left to right, and never join characters.

    Characters with the same first bytes share the tokens for these bytes.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        if not text.isascii():
            counts.update(character for character in text if character > "\x7f")
    room = (wanted.vocab_size or DEFAULT) - 256 - SPECIAL_SLOTS
    merges: dict[bytes, tuple[bytes, bytes]] = {}
    for character, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        encoded = character.encode("utf-8", "ignore")  # without lone surrogates
        new = {encoded[: i + 1]: (encoded[:i], encoded[i : i + 1]) for i in range(1, len(encoded))}
        new = {token: pair for token, pair in new.items() if token not in merges}
        if len(merges) + len(new) > room:
            break
        merges |= new
    return byte_level_backend(list(merges.values()))


def _byte(_texts: Iterable[str], _wanted: Wanted) -> tokenizers.Tokenizer:
    return byte_level_backend([])


BPE = TokenizerKind("bpe", "frequent byte sequences, by repeated merging", SMALLEST, "exact", _bpe, sample=2_000)
CHAR = TokenizerKind("char", "characters, the most frequent ones if not all fit", SMALLEST, "most", _char)
BYTE = TokenizerKind("byte", "single bytes; nothing is learned", SMALLEST, "fixed", _byte)
