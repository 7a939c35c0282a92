"""WordPiece: a word is cut from left to right into the longest pieces that the vocabulary has.

As published, WordPiece drops white space and has one unknown token for every word that it cannot spell. Here, white
space belongs to words as in the other kinds, and words are spelled in bytes, of which the vocabulary has all: at the
beginning of a word, and, marked with `CONTINUES`, inside of one.

    id            token
    0 .. 255      the byte of that value at the beginning of a word
    256 .. 511    the byte inside a word
    512 ..        learned pieces, the most frequent first
    last 16+      special tokens
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tinyslm.tokenizer.casing import marks
from tinyslm.tokenizer.kinds.kind import DEFAULT, LONGEST_WORD, TokenizerKind, Wanted, learned_merges, used
from tinyslm.tokenizer.vocabulary import SPECIAL_SLOTS, add_special, byte_symbols, round_up, split_of

if TYPE_CHECKING:
    import tokenizers

CONTINUES = "\u2026"  # an ellipsis: no byte is written as one, whereas BERT's "##" may begin a word of a text
BASE = 512  # single bytes in both places
LONGEST_CHARACTER = 4  # bytes


def _learn(texts: Iterable[str], wanted: Wanted) -> tokenizers.Tokenizer:
    split = split_of(wanted.digits)
    room = (wanted.vocab_size or DEFAULT) - BASE - SPECIAL_SLOTS
    merges, characters = learned_merges(texts, room, split, prefix=CONTINUES, marked=wanted.marked)
    pieces = list(dict.fromkeys(left + right.removeprefix(CONTINUES) for left, right in merges))
    pieces = pieces[: used(wanted, len(pieces), BASE, characters, "repeated byte sequences")]
    return _backend(
        [*byte_symbols(), *(CONTINUES + symbol for symbol in byte_symbols()), *pieces], split, wanted.marked
    )


def _backend(pieces: list[str], split: str, marked: bool) -> tokenizers.Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    backend = Tokenizer(
        models.WordPiece(
            {piece: number for number, piece in enumerate(pieces)},
            unk_token="",  # never needed
            max_input_chars_per_word=LONGEST_CHARACTER * LONGEST_WORD,
            continuing_subword_prefix=CONTINUES,
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.FixedLength(LONGEST_WORD),  # longer words would be unknown
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.Sequence([decoders.Replace(Regex(f"^{CONTINUES}"), ""), decoders.ByteLevel()])
    return add_special(marks(backend) if marked else backend, len(pieces))


WORDPIECE = TokenizerKind(
    "wordpiece",
    "frequent byte sequences, the longest first from the left",
    round_up(BASE + SPECIAL_SLOTS),
    "exact",
    _learn,
    no_gguf="its WordPiece drops white space and capitals, which this one keeps",
    sample=2_000,
)
