"""Unigram, SentencePiece's other model: of all ways to cut a word into pieces, the one with the highest probability.

Kudo, "Subword Regularization", 2018. Pieces are characters; one without a piece is spelled in bytes. White space is
not rewritten, so that every text comes back.

A word is a run of letters, of other visible characters, or of spaces, with all spaces before it. Whether two characters
are of one word depends on these two alone: then no piece reaches from one word into the next, and programs that cut the
whole text at once, as llama.cpp does, find the same pieces. Digits in groups of two or three are the exception.

    id            token
    0 .. 255      the byte of that value, spelled "<0x41>"
    256 ..        pieces, the most probable first
    last 16+      special tokens
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tinyslm.tokenizer.casing import MARKS, marks, normalizer
from tinyslm.tokenizer.kinds.kind import DEFAULT, Counted, TokenizerKind, Wanted, short_texts, used
from tinyslm.tokenizer.vocabulary import DIGITS, SMALLEST, SPECIAL_SLOTS, add_special

if TYPE_CHECKING:
    import tokenizers

BYTE_SCORE = -1000.0  # log-probability of a byte's token, which no text is cut into but by fallback
COVERED = 0.9995  # share of the text's characters that get a piece, as in SentencePiece
LONGEST = 32  # characters of a word to learn from


def words(digits: str) -> str:
    """The regular expression that splits texts into words."""
    return rf" *[\p{{L}}\p{{M}}']+|{DIGITS[digits]}| *[^\s\p{{L}}\p{{M}}\p{{N}}']+| +|[\r\n]+|[^\S \r\n]+"


def _learn(texts: Iterable[str], wanted: Wanted) -> tokenizers.Tokenizer:
    import regex

    from tinyslm.tokenizer.kinds.unigram_learning import learned_pieces

    split = words(wanted.digits)
    find, alone = regex.compile(split).findall, regex.compile(f"({MARKS})").split
    counts: Counter[str] = Counter()
    counted = Counted(texts)
    marked = normalizer() if wanted.marked else None
    for text in short_texts(counted):
        for part in [text] if marked is None else alone(marked.normalize_str(text)):
            counts.update(find(part))
    room = (wanted.vocab_size or DEFAULT) - 256 - SPECIAL_SLOTS
    pieces = learned_pieces(_parts(counts), room)
    return _backend(
        pieces[: used(wanted, len(pieces), 256, counted.characters, "pieces of words")], split, wanted.marked
    )


def _parts(counts: Mapping[str, int]) -> dict[str, int]:
    """The words without rare characters, in parts of at most `LONGEST` characters."""
    rare = _rare(counts)
    parts: Counter[str] = Counter()
    for word, count in counts.items():
        for known in [word] if word.isascii() else word.translate(rare).split("\n"):
            for start in range(0, len(known), LONGEST):
                parts[known[start : start + LONGEST]] += count
    return parts


def _rare(words: Mapping[str, int]) -> dict[int, str]:
    """The characters that get no piece, each with a line end in its place."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    left = (1 - COVERED) * counts.total()
    rare: dict[int, str] = {}
    for character, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        left -= count
        if left < 0:
            break
        if not character.isascii():
            rare[ord(character)] = "\n"
    return rare


def _backend(pieces: list[tuple[str, float]], split: str, marked: bool) -> tokenizers.Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocab = [(f"<0x{byte:02X}>", BYTE_SCORE) for byte in range(256)] + pieces
    backend = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))  # bytes take the place of the unknown one
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(split), "isolated")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return add_special(marks(backend) if marked else backend, len(vocab))


UNIGRAM = TokenizerKind(
    "unigram",
    "the likeliest pieces of words",
    SMALLEST,
    "exact",
    _learn,
    no_gguf="its Unigram has one unknown token for the characters that this one spells in bytes",
    sample=2_000,
)
