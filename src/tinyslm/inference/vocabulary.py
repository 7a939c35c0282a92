"""A tokenizer as llguidance reads it: the bytes of each id, which ids are special, and how text is spelled."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import groupby, takewhile
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from tinyslm.tokenizer.backend import ByteDecoder

if TYPE_CHECKING:
    import llguidance
    from numpy.typing import NDArray

    from tinyslm.tokenizer.tokenizer import Tokenizer

# Before text that goes on from other text, so that a tokenizer that begins every text with a space puts it before this.
_GUARD = "\n"

FOLLOWING = (b"", b"a", b"A", b"1", b".", b"(")
"""What may stand behind spaces: a character of each kind that tokenizers divide text by."""

_MOST_SPELLINGS = 200  # that are cached


class Vocabulary:
    """What grammars need to know of a tokenizer; made once for each.

    Attributes:
        bytes_of: what each id stands for inside a text.
        stops, stop: the ids that end a text, and one of them.
        tokens: all of it, as llguidance wants it.
        letters: the same ids, of which only single bytes and special tokens are text; masks over these take a fraction
            of the time, which searches for an ending (`ending.py`) need.
        letter_ids: the ids of single bytes.
        letters_in_order: all letters, for `letter_bits`.
        letter_bits: for each of them, its octet in a mask and its bit in there.
        spelled_first: for ids that are spelled differently at the very beginning of a text, an id that has always the
            bytes that this one has there; None where there is none.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.size = tokenizer.vocab_size
        self.bytes_of = [tokenizer.token_bytes(token) for token in range(self.size)]
        self.stops = frozenset(tokenizer.stop_ids)
        self.stop = min(self.stops)
        self.special = self.stops.union(tokenizer.special_ids.values())
        ordinary = [b"" if token in self.special else piece for token, piece in enumerate(self.bytes_of)]
        self.letter_ids = {piece: token for token, piece in reversed(list(enumerate(ordinary))) if len(piece) == 1}
        self.letters_in_order = sorted({*self.letter_ids.values(), *(self.special - self.stops)})
        places = np.array(self.letters_in_order)
        self.letter_bits = places // 8, np.left_shift(1, places % 8).astype(np.uint8)
        kept = self.special.union(self.letter_ids.values())
        letters = [piece if token in kept else b"" for token, piece in enumerate(self.bytes_of)]
        self.tokens = _read(tokenizer, self.bytes_of, self.special)
        self.letters = _read(tokenizer, letters, self.special)
        self.spelled_first = _spelled_first(tokenizer, ordinary)
        self._letters: dict[int, list[int]] = {}
        self._in_order = sorted((piece, token) for token, piece in enumerate(ordinary) if piece)
        self._spellings: dict[bytes, NDArray[np.uint32]] = {}

    def spelled(self, text: bytes) -> list[int]:
        """The text in single bytes; nothing if there is no token for one of them."""
        letters = [self.letter_ids.get(text[place : place + 1]) for place in range(len(text))]
        return [] if None in letters else [letter for letter in letters if letter is not None]

    def letters_of(self, token: int) -> list[int]:
        """The token in letters; not to be changed."""
        if token not in self._letters:
            self._letters[token] = [token] if token in self.special else self.spelled(self.bytes_of[token])
        return self._letters[token]

    def spelling(self, text: bytes) -> NDArray[np.uint32]:
        """Bits `[ceil(size / 32)]` of the tokens that begin with `text`, and of the first one in its usual spellings.

        What follows `text` may change them: four spaces before a word are often a token of three, and one of the word
        with the fourth.
        """
        if text not in self._spellings:
            allowed = np.zeros(32 * -(-self.size // 32), np.bool_)
            place = bisect_left(self._in_order, (text, 0))
            while place < len(self._in_order) and self._in_order[place][0].startswith(text):
                allowed[self._in_order[place][1]] = True
                place += 1
            for spelled in self._spelled(text):
                allowed[spelled[:1]] = True
            if len(self._spellings) == _MOST_SPELLINGS:
                self._spellings.clear()
            self._spellings[text] = np.packbits(allowed, bitorder="little").view("<u4").astype(np.uint32)
        return self._spellings[text]

    def begins(self, text: bytes) -> set[int]:
        """The first token of `text` in each of its usual spellings, if it lies within the text."""
        first = {spelled[0] for spelled in self._spelled(text)}
        return {token for token in first if text.startswith(self.bytes_of[token])}

    def settled(self, text: bytes, ids: list[int]) -> list[int]:
        """As many of the tokens of `text` as do not depend on what follows it."""
        if not text[-1:].isspace():
            return ids
        columns = zip(ids, *self._spelled(text), strict=False)
        return [one[0] for one in takewhile(lambda column: len(set(column)) == 1, columns)]

    def _spelled(self, text: bytes) -> list[list[int]]:
        """The tokens of `text` and what may follow it, for each of `FOLLOWING` where that matters."""
        return [self.tokens.tokenize_bytes(text + behind) for behind in (FOLLOWING if text[-1:].isspace() else (b"",))]

    def shortened(self, letters: Sequence[int]) -> list[int]:
        """The same text in fewer tokens: from left to right, the longest that fits."""
        ids: list[int] = []
        for special, group in groupby(letters, self.special.__contains__):
            part = list(group)
            text = b"".join(self.bytes_of[letter] for letter in part)
            if not special and (characters := text.decode("utf-8", "replace")).encode() == text:
                part = self.tokens.greedy_tokenize(characters)  # not in the middle of a character
            ids += part
        return ids


_known: WeakKeyDictionary[Tokenizer, Vocabulary] = WeakKeyDictionary()


def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """The vocabulary of `tokenizer`, made when it is first asked for."""
    if tokenizer not in _known:
        _known[tokenizer] = Vocabulary(tokenizer)
    return _known[tokenizer]


class _Described:
    """The attributes that llguidance looks for in a tokenizer."""

    is_tokenizer_wrapper = True
    _accepts_bytes = False

    def __init__(self, tokenizer: Tokenizer, tokens: Sequence[bytes], special: frozenset[int]) -> None:
        self.eos_token_id = tokenizer.stop_ids[0]
        self.bos_token_id = tokenizer.bos_id
        self.tokens = list(tokens)
        self.special_token_ids = sorted(special)
        self._encode = tokenizer.encode
        self._begins_with_space = tokenizer.decode_bytes(tokenizer.encode("a")) != b"".join(
            tokenizer.token_bytes(token) for token in tokenizer.encode("a")
        )

    def __call__(self, text: str) -> list[int]:
        """Ids of a text that goes on from another one."""
        if not self._begins_with_space:
            return self._encode(text)
        ids = self._encode(_GUARD + text)
        seen = b""
        for count, token in enumerate(ids, 1):
            seen += self.tokens[token]
            if seen.strip(b" ") == _GUARD.encode():
                return ids[count:]
        return []


def _read(tokenizer: Tokenizer, tokens: Sequence[bytes], special: frozenset[int]) -> llguidance.LLTokenizer:
    import llguidance

    described = _Described(tokenizer, tokens, special)
    return llguidance.LLTokenizer(described, eos_token=list(tokenizer.stop_ids))  # type: ignore[arg-type]


def _spelled_first(tokenizer: Tokenizer, ordinary: Sequence[bytes]) -> dict[int, int | None]:
    """See `Vocabulary`. Tokenizers with byte fallback drop a space from the beginning of a text."""
    if not tokenizer.table.first and not tokenizer.table.spaces:
        return {}
    with_bytes = {piece: token for token, piece in reversed(list(enumerate(ordinary))) if piece}
    changed = {}
    for token, piece in enumerate(ordinary):
        first = ByteDecoder(tokenizer.table).push(token) if piece else piece
        if first != piece:
            changed[token] = with_bytes.get(first)
    return changed
