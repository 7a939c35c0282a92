"""What a kind of tokenizer is: a value that says how it is learned, and which sizes it has.

Whatever a kind learns is a `tokenizers` object of which `backend.table_of` can tell the bytes of every token: a
byte-level model, or one with byte fallback. Adding a kind is one file with one `TokenizerKind`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tinyslm.core.errors import TinyslmError
from tinyslm.tokenizer.casing import marks
from tinyslm.tokenizer.vocabulary import SPECIAL_SLOTS, VOCAB_STEP, byte_symbols, round_up

if TYPE_CHECKING:
    import tokenizers

DEFAULT = 4096  # tokens
CHARACTERS_FOR_A_TOKEN = 256  # with less text per token, most tokens are too rare for a model to learn
LONGEST_WORD = 64  # characters; the cost of learning grows with the length of the words
LONGEST_TEXT = 1 << 18  # characters; `tokenizers` needs some 50 bytes of memory for each while it splits a text


@dataclass(frozen=True)
class Wanted:
    """What is asked of a tokenizer.

    vocab_size: tokens, a size that the kind has; None: as many as the text supports, up to `DEFAULT`. digits: a key of
    `vocabulary.DIGITS`. marked: capitals are marked (`casing.py`).
    """

    vocab_size: int | None
    digits: str
    marked: bool = False


@dataclass(frozen=True)
class TokenizerKind:
    """One kind of tokenizer.

    about: what its tokens are, a clause for help texts and documentation.
    smallest: the number of tokens without any learned ones.
    sizes: "exact": it has the size that is asked for; "most": at most that size; "fixed": always `smallest`.
    learn: from texts, read once, to a `tokenizers` object with the special tokens of tinyslm. Equal texts give
        equal tokenizers. Raises `TinyslmError` when the texts are too short for the size.
    no_gguf: why llama.cpp cannot have such a tokenizer, a clause about "it", llama.cpp; "" if it can.
    sample: how many bytes of text for each token are enough to learn from; 0: as many as there are.
    """

    name: str
    about: str
    smallest: int
    sizes: Literal["exact", "most", "fixed"]
    learn: Callable[[Iterable[str], Wanted], tokenizers.Tokenizer]
    no_gguf: str = ""
    sample: int = 0

    def size(self, wanted: int) -> int | None:
        """The size of a vocabulary for which `wanted` tokens are asked; None if only the text tells, or for 0."""
        if self.sizes == "fixed":
            return self.smallest
        return self.rounded(wanted) if wanted and self.sizes == "exact" else None

    def rounded(self, wanted: int) -> int:
        """`wanted` tokens rounded up to a size that this kind has."""
        return max(round_up(wanted), self.smallest)


class Counted:
    """Counts the characters of texts as they are read."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.characters += len(text)
            yield text


def short_texts(texts: Iterable[str]) -> Iterator[str]:
    """The texts in parts of at most `LONGEST_TEXT` characters, without lone surrogates."""
    for text in texts:
        for start in range(0, len(text), LONGEST_TEXT):
            part = text[start : start + LONGEST_TEXT]
            yield part if part.isascii() else part.encode("utf-8", "replace").decode("utf-8")


def used(wanted: Wanted, found: int, base: int, characters: int, what: str) -> int:
    """How many of `found` learned tokens to use, besides `base` others and the special ones.

    Raises `TinyslmError`, which calls the learned tokens `what`, if there are too few for the size that is asked for.
    """
    if wanted.vocab_size is None:
        supported = min(found, DEFAULT - base - SPECIAL_SLOTS, characters // CHARACTERS_FOR_A_TOKEN)
        return max(0, _largest(base, supported) - base - SPECIAL_SLOTS)
    count = wanted.vocab_size - base - SPECIAL_SLOTS
    if found >= count:
        return count
    possible, smallest = _largest(base, found), round_up(base + SPECIAL_SLOTS)
    remedy = f"Ask for a vocabulary of at most {possible}" if possible >= smallest else 'Use the tokenizer kind "byte"'
    raise TinyslmError(
        f"A vocabulary of {wanted.vocab_size} is too large for this text: it has only {found} {what}, in addition to "
        f"the {base} bytes and {SPECIAL_SLOTS} special tokens.",
        f"{remedy}, or give more text.",
    )


def _largest(base: int, learned: int) -> int:
    """The largest vocabulary, a multiple of 64, with at most this many learned tokens; below the smallest if none."""
    return (base + SPECIAL_SLOTS + learned) // VOCAB_STEP * VOCAB_STEP


def learned_merges(
    texts: Iterable[str], wanted: int, split: str, *, prefix: str | None = None, marked: bool = False
) -> tuple[Sequence[tuple[str, str]], int]:
    """The merges of pairs of byte symbols that occur at least twice, the most frequent first.

    split: the regular expression that splits texts into words. prefix: marks symbols that continue a word. marked:
    capitals are. Also returns the number of characters read.
    """
    import json

    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.FixedLength(LONGEST_WORD),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend = marks(backend) if marked else backend
    # Pairs that are equally frequent are merged in the order of their parts' ids, so all symbols have one beforehand.
    symbols = [prefix + symbol for symbol in byte_symbols()] if prefix else []
    continuing: dict[str, Any] = {"continuing_subword_prefix": prefix} if prefix else {}
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(symbols) + wanted,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=symbols,
        show_progress=False,
        **continuing,
    )
    counted = Counted(texts)
    backend.train_from_iterator(short_texts(counted), trainer=trainer)
    merges = [(left, right) for left, right in json.loads(backend.to_str())["model"]["merges"]]
    return merges[:wanted], counted.characters
