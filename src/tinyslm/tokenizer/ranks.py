"""Read a file of ranks as tiktoken writes it, `NAME.tiktoken`: a token in base 64 and its id on each line.

The file does not say how text is split into words; its name does. tinyslm's special tokens follow the ranks: those of
the original model are in the programs that use it, not in the file.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from tinyslm.core.errors import TinyslmError
from tinyslm.tokenizer.vocabulary import SPLIT, SPLIT_GPT2, add_special, byte_symbols, split_of

if TYPE_CHECKING:
    import tokenizers

SPLITS = {
    "cl100k_base": SPLIT,
    "qwen": split_of("one"),
    **dict.fromkeys(("gpt2", "r50k_base", "p50k_base"), SPLIT_GPT2),
}
LARGEST_FILE = 1 << 26  # bytes; 200,000 tokens need 4 MB
LONGEST_TOKEN = 1024  # bytes


def read_ranks(file: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a file of ranks. Raises `TinyslmError` for one that is damaged, or whose split is unknown."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    if file.stem not in SPLITS:
        raise TinyslmError(
            f"{file} does not say how it splits text; known are files with the names {', '.join(SPLITS)}.",
            "Convert it: transformers.integrations.tiktoken.convert_tiktoken_to_fast(ENCODING, FOLDER).",
        )
    ranks = _ranks(file)
    symbols = byte_symbols()

    def spell(token: bytes) -> str:
        return "".join(symbols[byte] for byte in token)

    merges = [_pair(file, token, ranks) for token in sorted(ranks, key=ranks.__getitem__) if len(token) > 1]
    vocab = {spell(token): rank for token, rank in ranks.items()}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[(spell(left), spell(right)) for left, right in merges]))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLITS[file.stem]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return add_special(backend, len(ranks))


def _ranks(file: Path) -> dict[bytes, int]:
    """The rank of each token: 0 to their number, with all bytes among them."""
    if file.stat().st_size > LARGEST_FILE:
        raise _damaged(file, f"it is larger than {LARGEST_FILE:,} bytes")
    ranks: dict[bytes, int] = {}
    try:
        for line in file.read_bytes().splitlines():
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
    except (ValueError, binascii.Error) as error:
        raise _damaged(file, f"a line is not a token in base 64 and a number ({error})") from None
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise _damaged(file, "its ranks are not the numbers from 0 on")
    if not all(bytes([byte]) in ranks for byte in range(256)) or max(map(len, ranks)) > LONGEST_TOKEN:
        raise _damaged(file, f"it lacks tokens for single bytes, or has one of more than {LONGEST_TOKEN:,}")
    return ranks


def _pair(file: Path, token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens that are joined last when `token` is made of its bytes by the ranks below its own."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        joined = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
        place = min(range(len(joined)), key=joined.__getitem__)
        if joined[place] >= ranks[token]:
            raise _damaged(file, f"no tokens make the token {token!r:.60}")
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]


def _damaged(file: Path, how: str) -> TinyslmError:
    return TinyslmError(f"{file} is not a file of ranks of tiktoken: {how}.", "Get the file again.")
