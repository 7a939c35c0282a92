"""Which part of the validation text is looked at, and how often its bytes come to a token."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tinyslm.core.errors import TinyslmError
from tinyslm.data.shards import TokenSplit


def bytes_per_token(split: TokenSplit) -> float:
    """Bytes of UTF-8 text for each token of a split, the documents' end tokens included."""
    return split.utf8_bytes / split.tokens


def even_windows(split: TokenSplit, context: int, tokens: int) -> Tensor:
    """Windows `[n, context + 1]` of a split, spread evenly, of at most `tokens` predictions (at least one window)."""
    length = min(context, split.tokens - 1)
    if length < 1:
        raise TinyslmError(
            f"The {split.name} split has {split.tokens} tokens: too few to validate on.",
            "Give more text, or a larger share of it for validation (--data.valid_share).",
        )
    fitting = (split.tokens - 1) // length
    count = max(1, min(tokens // length, fitting))
    starts = [index * fitting // count * length for index in range(count)]
    return torch.stack([torch.from_numpy(split.slice(start, length + 1).astype("int64")) for start in starts])


def spread_documents(split: TokenSplit, tokens: int) -> Iterator[tuple[list[int], int]]:
    """Ids (without end tokens) and bytes of every n-th document, so that they have about `tokens` tokens at most."""
    for number in _spread(split, tokens):
        yield split.document(number)[:-1].tolist(), split.document_bytes(number)


def spread_tokens(split: TokenSplit, tokens: int) -> float:
    """About how many tokens these documents have."""
    return split.tokens / split.documents * len(_spread(split, tokens))


def _spread(split: TokenSplit, tokens: int) -> range:
    return range(0, split.documents, -(-split.tokens // tokens))
