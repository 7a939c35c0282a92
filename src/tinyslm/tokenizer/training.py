"""Train tokenizers on texts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from tinyslm.core.errors import TinyslmError
from tinyslm.core.registry import Registry
from tinyslm.tokenizer.chat import CHATML
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.vocabulary import (
    SMALLEST,
    SPECIAL_SLOTS,
    SPLIT,
    VOCAB_STEP,
    byte_level_backend,
    byte_symbols,
    round_up,
)

Merges = list[tuple[bytes, bytes]]

DEFAULT = 4096  # tokens
CHARACTERS_FOR_A_TOKEN = 256  # with less text per token, most tokens are too rare for a model to learn
LONGEST_WORD = 64  # characters; the cost of a merge grows with the length of the words
LONGEST_TEXT = 1 << 18  # characters; `tokenizers` needs some 50 bytes of memory for each while it splits a text


def train_tokenizer(texts: Iterable[str], *, kind: str = "bpe", vocab_size: int = 0) -> Tokenizer:
    """Train a tokenizer on `texts`, which are read once. Equal texts give equal tokenizers.

    kind: "bpe" learns frequent byte sequences; "char" has one token for each character, the most frequent ones if
        not all fit; "byte" has one token for each byte and reads no text.
    vocab_size: number of tokens, including at least 16 special ones; rounded up to a multiple of 64, at least 320. For
        "bpe" it is the exact size, for "char" the maximum; "byte" always has 320. 0: 4096, or for "bpe" fewer if the
        texts are too short.

    Raises `TinyslmError` for an unknown kind, or for "bpe" when `vocab_size` is larger than the number of repeated
    byte sequences allows.
    """
    learn = _KINDS[kind]
    merges = learn(texts, max(round_up(vocab_size), SMALLEST)) if vocab_size else learn(texts, None)
    return Tokenizer(byte_level_backend(merges), chat_template=CHATML)


def train_tokenizers(texts: Iterable[str], sizes: Iterable[int]) -> dict[int, Tokenizer]:
    """Train "bpe" tokenizers of several sizes at the cost of the largest; leaves out sizes that need more text.

    Each equals the result of `train_tokenizer` for its size.
    """
    sizes = sorted({max(round_up(size), SMALLEST) for size in sizes})
    merges, _ = _learned_merges(texts, sizes[-1] - 256 - SPECIAL_SLOTS)
    cuts = {size: size - 256 - SPECIAL_SLOTS for size in sizes}
    return {
        size: Tokenizer(byte_level_backend(merges[:cut]), chat_template=CHATML)
        for size, cut in cuts.items()
        if cut <= len(merges)
    }


def _no_merges(_texts: Iterable[str], _vocab_size: int | None) -> Merges:
    return []


def _character_merges(texts: Iterable[str], vocab_size: int | None) -> Merges:
    """Merges that build each character from its UTF-8 bytes, left to right, and never join characters.

    Characters with the same first bytes share the tokens for these bytes.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        if not text.isascii():
            counts.update(character for character in text if character > "\x7f")
    room = (vocab_size or DEFAULT) - 256 - SPECIAL_SLOTS
    merges: dict[bytes, tuple[bytes, bytes]] = {}
    for character, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        encoded = character.encode("utf-8", "ignore")  # without lone surrogates
        new = {encoded[: i + 1]: (encoded[:i], encoded[i : i + 1]) for i in range(1, len(encoded))}
        new = {token: pair for token, pair in new.items() if token not in merges}
        if len(merges) + len(new) > room:
            break
        merges |= new
    return list(merges.values())


def _trained_merges(texts: Iterable[str], vocab_size: int | None) -> Merges:
    """The merges for a vocabulary of this size; without a size, as many as the text supports up to `DEFAULT`."""
    wanted = (vocab_size or DEFAULT) - 256 - SPECIAL_SLOTS
    merges, characters = _learned_merges(texts, wanted)
    if len(merges) < wanted and vocab_size:
        raise _too_large(vocab_size, len(merges))
    if vocab_size:
        return merges
    supported = min(len(merges), characters // CHARACTERS_FOR_A_TOKEN)
    return merges[: max(0, _largest(supported) - 256 - SPECIAL_SLOTS)]


def _learned_merges(texts: Iterable[str], wanted: int) -> tuple[Merges, int]:
    """The merges of pairs that occur at least twice, the most frequent first, and the number of characters read."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.FixedLength(LONGEST_WORD),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=256 + wanted,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    counted = _Counted(texts)
    backend.train_from_iterator(_short_texts(counted), trainer=trainer)
    byte_of = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    merges = [
        (bytes(byte_of[symbol] for symbol in left), bytes(byte_of[symbol] for symbol in right))
        for left, right in json.loads(backend.to_str())["model"]["merges"]
    ]
    return merges, counted.characters


class _Counted:
    """Counts the characters of texts as they are read."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.characters += len(text)
            yield text


def _short_texts(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for start in range(0, len(text), LONGEST_TEXT):
            part = text[start : start + LONGEST_TEXT]
            yield part if part.isascii() else part.encode("utf-8", "replace").decode("utf-8")


def _largest(merges: int) -> int:
    """The largest vocabulary, a multiple of 64, with at most this many merges; 256 if even the smallest has more."""
    return (256 + SPECIAL_SLOTS + merges) // VOCAB_STEP * VOCAB_STEP


def _too_large(vocab_size: int, merges: int) -> TinyslmError:
    possible = _largest(merges)
    remedy = f"Ask for a vocabulary of at most {possible}" if possible >= SMALLEST else 'Use the tokenizer kind "byte"'
    return TinyslmError(
        f"A vocabulary of {vocab_size} is too large for this text: it has only {merges} repeated byte sequences, in "
        f"addition to the 256 bytes and {SPECIAL_SLOTS} special tokens.",
        f"{remedy}, or give more text.",
    )


_KINDS: Registry[Callable[[Iterable[str], int | None], Merges]] = Registry("tokenizer kind")
for _kind, _learn in (("bpe", _trained_merges), ("char", _character_merges), ("byte", _no_merges)):
    _KINDS.add(_kind, _learn)
