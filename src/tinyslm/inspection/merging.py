"""Byte-pair encoding step by step: the merges that make the tokens of a text, and how merges are learned."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tinyslm.tokenizer.fast import known_split
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.vocabulary import byte_symbols

Pair = tuple[int, int]


@dataclass(frozen=True)
class Merge:
    """Two tokens that become one at `places` places of a text.

    left, right, token: ids. rank: the number of the merge in the tokenizer's list; the first that was learned is 0.
    """

    rank: int
    left: int
    right: int
    token: int
    places: int


@dataclass(frozen=True)
class Merging:
    """How a text becomes tokens.

    words: the ids of each word before the first merge, those of bytes or characters. merges: in the order in which they
    are made. known: how many merges the tokenizer has.
    """

    words: Sequence[Sequence[int]]
    merges: Sequence[Merge]
    known: int


@dataclass(frozen=True)
class Rules:
    """What a program needs to encode any text as a tokenizer does.

    split: the regular expression that splits texts into words. bytes: the id of each of the 256 bytes. merges: the ids
    of both neighbours and of what they become, in the order of their ranks.
    """

    split: str
    bytes: Sequence[int]
    merges: Sequence[tuple[int, int, int]]


@dataclass(frozen=True)
class Count:
    """How often two neighbours occur in a text."""

    left: bytes
    right: bytes
    count: int


def merging(tokenizer: Tokenizer, text: str) -> Merging | None:
    """The merges of a text, all places of a pair at once; `None` if more than merges makes the tokenizer's ids.

    That is so for kinds without merges, and for a text with tokens that were added to the vocabulary.
    """
    content = tokenizer.content
    model = content["model"]
    if model["type"] != "BPE" or not model["merges"]:
        return None
    vocab: Mapping[str, int] = model["vocab"]
    ranks: dict[Pair, tuple[int, int]] = {}
    for rank, (left, right) in enumerate(model["merges"]):
        if left + right in vocab:
            ranks.setdefault((vocab[left], vocab[right]), (rank, vocab[left + right]))
    words = [_symbols(word, vocab) for word in _words(content, text)]
    steps, state = [], [list(word) for word in words]
    while pairs := Counter(pair for word in state for pair in pairwise(word) if pair in ranks):
        pair = min(pairs, key=ranks.__getitem__)
        rank, token = ranks[pair]
        before = sum(map(len, state))
        state = [_merged(word, pair, token) for word in state]
        steps.append(Merge(rank, *pair, token, before - sum(map(len, state))))
    if [token for word in state for token in word] != tokenizer.encode(text):
        return None
    return Merging(words, steps, len(model["merges"]))


def rules_of(tokenizer: Tokenizer) -> Rules | None:
    """The rules of a byte-level BPE that has nothing but a known split, bytes and merges; `None` for others."""
    content = tokenizer.content
    model, split = content["model"], known_split(content["pre_tokenizer"])
    if model["type"] != "BPE" or model["ignore_merges"] or split is None or content["normalizer"] is not None:
        return None
    vocab: Mapping[str, int] = model["vocab"]
    if not tokenizer.table.byte_level or not all(symbol in vocab for symbol in byte_symbols()):
        return None
    known = ((left, right) for left, right in model["merges"] if left + right in vocab)
    merges = [(vocab[left], vocab[right], vocab[left + right]) for left, right in known]
    return Rules(split, [vocab[symbol] for symbol in byte_symbols()], merges)


def learn_merges(texts: Iterable[str], split: str, steps: int, shown: int) -> list[list[Count]]:
    """Learn byte-pair merges, the most frequent pair of neighbours first.

    split: the regular expression that splits texts into words; no merge joins two of them. Returns for each of `steps`
    merges the `shown` most frequent pairs at that time, of which the first is merged; fewer if no pair occurs twice.
    """
    import regex

    find = regex.compile(split).findall
    counts = Counter(word.encode("utf-8", "replace") for text in texts for word in find(text))
    words: dict[tuple[bytes, ...], int] = {tuple(bytes([byte]) for byte in word): n for word, n in counts.items()}
    pairs: Counter[tuple[bytes, bytes]] = Counter()
    for word, number in words.items():
        _count(pairs, word, number)
    found = []
    for _ in range(steps):
        best = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:shown]
        if not best or best[0][1] < 2:
            break
        found.append([Count(*pair, number) for pair, number in best])
        chosen = best[0][0]
        for word, number in [item for item in words.items() if chosen in pairwise(item[0])]:
            del words[word]
            merged = tuple(_merged(word, chosen, chosen[0] + chosen[1]))
            words[merged] = number
            _count(pairs, word, -number)
            _count(pairs, merged, number)
    return found


def _count(pairs: Counter[tuple[bytes, bytes]], word: Sequence[bytes], number: int) -> None:
    for pair in pairwise(word):
        pairs[pair] += number


def _merged(word: Sequence[Any], pair: tuple[Any, Any], token: Any) -> list[Any]:
    """A word with `token` in all places of a pair, from the left."""
    if pair[0] not in word:
        return list(word)
    merged: list[Any] = []
    for one in word:
        if merged and (merged[-1], one) == pair:
            merged[-1] = token
        else:
            merged.append(one)
    return merged


def _words(content: Mapping[str, Any], text: str) -> list[str]:
    """The text as `tokenizer.json` normalizes it and splits it, before the model sees it."""
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_str(json.dumps({**content, "added_tokens": [], "post_processor": None}))
    normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
    if backend.pre_tokenizer is None:
        return [normal]
    return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal)]


def _symbols(word: str, vocab: Mapping[str, int]) -> list[int]:
    """The ids of the characters of a word; of the bytes of those that have none. -1: there is no id."""
    ids = []
    for character in word:
        spelled = (f"<0x{byte:02X}>" for byte in character.encode("utf-8", "replace"))
        ids += [vocab[character]] if character in vocab else [vocab.get(name, -1) for name in spelled]
    return ids
