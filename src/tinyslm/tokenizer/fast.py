"""Encode with tiktoken, several times faster than `tokenizers`, where the ids are proved to be equal.

The two libraries merge by different rules. `tokenizers` merges the adjacent pair that comes first in its list of
merges; tiktoken merges the adjacent pair whose joined bytes have the lowest id. The results are equal when

1. merge number i makes the i-th token in id order, from parts with lower ids, and no two merges make the same one; and
2. each token, encoded alone, is encoded as itself.

Proof: until a merge crosses its borders, a span of bytes inside a text goes through the same merges as alone. So where
two adjacent tokens join to the bytes of token t, they are the parts of the last merge when t is encoded alone, and by
(1) and (2) these are the parts in t's own entry in the list. The pairs that the two libraries may merge are therefore
the same, in the same order.

Splitting text into words comes before merging. Both run the same regular expression, on engines whose tables of
Unicode letters may differ; `SAMPLES`, on which both must agree before tiktoken is used, contain letters and digits of
every Unicode version since 14.

Normalization comes before splitting and is done by the tokenizer's own normalizer. Added tokens that are not special
are split off before everything else: texts that contain one are encoded by `tokenizers`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tinyslm.tokenizer.special import whole_characters
from tinyslm.tokenizer.vocabulary import DIGITS, SPLIT_GPT2, byte_level_backend, byte_symbols, split_of

if TYPE_CHECKING:
    import tiktoken
    import tokenizers

SPLITS = tuple(map(split_of, DIGITS))

NFC = {"type": "NFC"}  # Unicode composition of letters and marks

# tiktoken's regular expressions fail after a million backtracking steps, and need one for each white-space character.
LONGEST_SPACE = 100_000
_LONG_SPACE = re.compile(rf"(?<!\s)\s{{{LONGEST_SPACE}}}")

# Longer texts are cut between a letter and a space or punctuation, which does not change their ids: the regular
# expression always splits there, and no word before it looks ahead further. Only letters of every Unicode version.
LONG_TEXT = LONGEST_SPACE  # characters
_CUT = re.compile(r"[A-Za-z\u3041-\u3093\u4e00-\u9fa5\uac00-\ud7a3](?=[ \t\n\r.,;:!?\u3001\u3002\uff0c])")

SAMPLES = (
    "It's WE'LL 'Tis don't'S 'ſ 'K x'RE \u2019s",
    "a  b   c\t\td \n e\n\n  f\r\n\r\ng   ",
    "1234567 ٣٤٥٦ ½²³ Ⅷ x1y22z333",
    "naïve Straße ΑΒΓ пример 漢字かな交じり文 한국어 العربية עברית ไทย हिन्दी e\u0301",
    "👩‍👩‍👧 🏳️‍🌈 🇩🇪 \U0001fae8 \ufeff\u200b\u00a0\u3000\u2028\u0085\u180e\x1c\x00\ufffd",
    "def f(x):\n    return {**x, 'a': [1, 2]}  # !!\n\n\nclass A:\n\tpass\n",
    "<|endoftext|><|im_start|>user\n",
    "x\U0001df25x x\U0001df00x x\U0002ebf0x x\u1c89x x\U00010d40x x\U00016ea0x x\ua7cex 1\U00010d401 1\U0001ccf01",
    "aaaaaaaaaaaaaaaaaaaa" * 40 + " " * 300 + "-=" * 200 + "\n" * 200,
)


class FastEncoding:
    """Encodes most texts to the ids of a `tokenizers` object."""

    def __init__(
        self, encoding: tiktoken.Encoding, normalizer: tokenizers.normalizers.Normalizer, added: list[str]
    ) -> None:
        self._encoding = encoding
        self._normalizer = normalizer
        longest_first = sorted(map(re.escape, added), key=len, reverse=True)
        self._added = re.compile("|".join(longest_first)) if added else None

    def encode(self, text: str) -> list[int] | None:
        """Encode a text without special tokens; None if it contains added tokens or very long runs of white space."""
        if self._added and self._added.search(text):
            return None
        if self._normalizer is not None and not text.isascii():
            text = self._normalizer.normalize_str(whole_characters(text))
            if self._added and self._added.search(text):
                return None
        if not is_safe(text):
            return None
        return self._encoding.encode_ordinary(text)


def fast_encoding(backend: tokenizers.Tokenizer) -> FastEncoding | None:
    """A tiktoken encoding with the ids of `backend`, or None if equality is not proved."""
    description = json.loads(backend.to_str())
    split = known_split(description["pre_tokenizer"])
    if split is None or not _is_plain(description):
        return None
    ranks = _ranks(description["model"])
    if ranks is None or not all(_encodes_to_itself(backend, token, rank) for token, rank in ranks.items()):
        return None
    encoding = _agreeing_encoding(backend, split, ranks)
    return encoding if encoding is not None and _splits_agree(backend.pre_tokenizer, split) else None


def cut(text: str) -> list[str]:
    """Cut a text into parts of about `LONG_TEXT` characters, whose ids, concatenated, are those of the whole text."""
    if len(text) <= LONG_TEXT:
        return [text]
    parts, start = [], 0
    while place := _CUT.search(text, start + LONG_TEXT):
        parts.append(text[start : place.end()])
        start = place.end()
    return [*parts, text[start:]]


def may_cut(description: dict[str, Any]) -> bool:
    """Whether `cut` keeps the ids of this `tokenizer.json`: its split is known, and no added token crosses a cut."""
    added = [token for token in description["added_tokens"] if not token["special"]]
    return (
        known_split(description["pre_tokenizer"]) is not None
        and description["normalizer"] in (None, NFC)
        and all(_is_plain_token(token) and not _CUT.search(token["content"]) for token in added)
    )


def is_safe(text: str) -> bool:
    """Whether tiktoken can encode `text`: it fails on very long runs of white space."""
    return len(text) < LONGEST_SPACE or _LONG_SPACE.search(text) is None


def _agreeing_encoding(backend: tokenizers.Tokenizer, split: str, ranks: dict[bytes, int]) -> FastEncoding | None:
    """The tiktoken encoding, or None if its ids differ from those of `backend` on a sample."""
    import tiktoken

    added = [token.content for token in backend.get_added_tokens_decoder().values() if not token.special]
    encoding = tiktoken.Encoding("tinyslm", pat_str=split, mergeable_ranks=ranks, special_tokens={})
    fast = FastEncoding(encoding, backend.normalizer, added)
    for text in SAMPLES:
        ids = fast.encode(text)
        if ids is not None and ids != backend.encode(text, add_special_tokens=False).ids:
            return None
    return fast


def _splits_agree(pre_tokenizer: Any, split: str) -> bool:
    """Whether both libraries split the samples equally, tested with merges that reveal every split.

    The tokenizer's own merges may hide a difference in the samples that appears in other texts.
    """
    first_bytes = [bytes([byte]) for byte in range(0xC2, 0xF5)]  # of characters that are not ASCII
    merges = [(left, right) for left in (b"x", b"1", b" ", b"'") for right in first_bytes]
    probe = byte_level_backend(merges)
    probe.pre_tokenizer = pre_tokenizer
    probe.encode_special_tokens = True
    ranks = _ranks(json.loads(probe.to_str())["model"])
    return ranks is not None and _agreeing_encoding(probe, split, ranks) is not None


def _is_plain(description: dict[str, Any]) -> bool:
    """Whether a `tokenizer.json` is plain BPE, in which only the merges determine the ids."""
    model = description["model"]
    return (
        model["type"] == "BPE"
        and not any(model[key] for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
        and not model["ignore_merges"]
        and description["normalizer"] in (None, NFC)
        and all(_is_plain_token(token) for token in description["added_tokens"] if not token["special"])
    )


def _is_plain_token(token: dict[str, Any]) -> bool:
    """Whether an added token matches exactly its characters, which normalization does not change."""
    return token["content"].isascii() and not any(token[key] for key in ("lstrip", "rstrip", "single_word"))


def known_split(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """The regular expression that splits texts into words, or None if it is unknown."""
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return SPLIT_GPT2
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        } if pattern in SPLITS:
            return str(pattern)
    return None


def _ranks(model: dict[str, Any]) -> dict[bytes, int] | None:
    """The id of each ordinary token by its bytes; None unless condition 1 holds and all 256 bytes have a token."""
    symbols = byte_symbols()
    byte_of = {symbol: byte for byte, symbol in enumerate(symbols)}
    vocab: dict[str, int] = model["vocab"]
    if not all(symbol in vocab for symbol in symbols):
        return None
    ranks = {symbol: vocab[symbol] for symbol in symbols}
    last = max(ranks.values())
    for left, right in model["merges"]:
        joined = vocab.get(left + right)
        if left not in ranks or right not in ranks or joined is None or joined <= last:
            return None
        ranks[left + right] = last = joined
    return {bytes(byte_of[symbol] for symbol in token): rank for token, rank in ranks.items()}


def _encodes_to_itself(backend: tokenizers.Tokenizer, token: bytes, rank: int) -> bool:
    """Condition 2 for one token."""
    symbols = byte_symbols()
    return [part.id for part in backend.model.tokenize("".join(symbols[byte] for byte in token))] == [rank]
