"""Exercise: a kind of tokenizer, added by a plugin."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import regex

from tinyslm.course.exercises.exercise import Check, Exercise
from tinyslm.tokenizer.kinds import KINDS
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer
from tinyslm.tokenizer.vocabulary import SPECIAL_SLOTS, split_of

TEXTS = [
    "The three thin thieves thought a thousand thoughts there; then the other thieves thanked them.\n" * 3,
    "Où sont les élèves? À l'école, où l'été s'étire. 12 100 2026\n" * 2,
    "for number in range(100):\n    print(number, number * number)\n" * 2,
]
UNSEEN = "naïve 🙂 \x00\x7f tab\tand  spaces\r\n日本語"
SIZE = 320


def _made() -> Tokenizer:
    return train_tokenizer(TEXTS, kind="pairs", vocab_size=SIZE)


def _token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    return [tokenizer.decode_bytes([token]) for token in range(SIZE - SPECIAL_SLOTS)]


def _size(_module: Any) -> str:
    if "pairs" not in KINDS:
        return 'The file adds no kind of tokenizer "pairs".'
    found = _made().vocab_size
    pairs = SIZE - 256 - SPECIAL_SLOTS
    if found != SIZE or b"" in _token_bytes(_made()):
        return f"A vocabulary of {SIZE} has 256 bytes, {pairs} pairs and {SPECIAL_SLOTS} special tokens."
    return ""


def _lossless(_module: Any) -> str:
    tokenizer = _made()
    for text in (*TEXTS, UNSEEN):
        if (found := tokenizer.decode(tokenizer.encode(text))) != text:
            return f"Encoded and decoded, {text[:40]!r} becomes {found[:40]!r}."
    return ""


def _two_bytes(_module: Any) -> str:
    wrong = [token for token in _token_bytes(_made())[256:] if len(token) != 2]
    return f"The token {wrong[0]!r} does not consist of two bytes." if wrong else ""


def _frequent(_module: Any) -> str:
    counts: Counter[bytes] = Counter()
    for text in TEXTS:
        for word in regex.findall(split_of("three"), text):
            counts.update(bytes(pair) for pair in pairwise(word.encode()))
    chosen = _token_bytes(_made())[256:]
    best = [pair for pair, _ in counts.most_common(len(chosen))]
    least = counts[best[-1]]
    for token in chosen:
        if counts[token] < least:
            better = next(pair for pair in best if pair not in chosen)
            return (
                f"The pair {token!r} occurs {counts[token]} times within words, and {better!r}, which is no token, "
                f"{counts[better]} times."
            )
    return ""


def _fewer(_module: Any) -> str:
    tokenizer, size = _made(), sum(len(text.encode()) for text in TEXTS)
    found = sum(len(tokenizer.encode(text)) for text in TEXTS)
    if found < 0.75 * size:
        return ""
    return f"The texts have {size} bytes, and {found} tokens: pairs should save a quarter."


def _same(_module: Any) -> str:
    return "" if _made().sha256 == _made().sha256 else "Trained twice on the same texts, the tokenizers differ."


TOKENIZER = Exercise(
    title="A kind of tokenizer",
    about="Half of byte-pair encoding: one round of merges, in a plugin for tinyslm tokenizer train.",
    task=(
        "Byte-pair encoding merges again and again. Your kind of tokenizer, “pairs”, does it once: its tokens are the "
        "256 bytes, and those pairs of neighbouring bytes that are the most frequent ones in the texts.",
        "Only pairs within words count: the tokenizer cuts a text with the regular expression split_of(wanted.digits) "
        "before it merges, so that a pair across two words would never be used. The library is regex, not re.",
        "The tokenizer has as many tokens as wanted.vocab_size says, with the special ones. The same texts give the "
        "same tokenizer, even if two pairs are equally frequent.",
    ),
    hints=(
        "The number of pairs is wanted.vocab_size - 256 - SPECIAL_SLOTS. vocab_size may be None: then take 64 pairs.",
        "itertools.pairwise gives the neighbours in word.encode(); a Counter counts them.",
        "Sort by (-count, pair): where counts are equal, the bytes decide.",
    ),
    start="exercises/tokenizer.py",
    checks=(
        Check("The plugin adds a kind “pairs”, with the size that is asked for.", _size),
        Check("Decoding restores every text, including text that was not in the training data.", _lossless),
        Check("Learned tokens consist of two bytes.", _two_bytes),
        Check("They are the most frequent pairs within words.", _frequent),
        Check("Texts get shorter by a quarter.", _fewer),
        Check("The same texts give the same tokenizer.", _same),
    ),
    then=(
        "tinyslm tokenizer train TEXT --kind pairs --vocab-size 1024 --plugin FILE --out my-tokenizer",
        "tinyslm tokenizer compare my-tokenizer --text TEXT",
    ),
)
