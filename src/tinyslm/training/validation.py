"""Which part of the held-out text is validated on."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tinyslm.core.errors import TinyslmError
from tinyslm.data.shards import TokenSplit


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
    """Ids (without end tokens) and bytes of every n-th document, so that they have about `tokens` tokens at most.

    Of a document with more tokens than that, only the beginning is taken; its bytes are then an estimate.
    """
    for number in range(0, split.documents, -(-split.tokens // tokens)):
        ids, size = split.document(number)[:-1].tolist(), split.document_bytes(number)
        yield ids[:tokens], size if len(ids) <= tokens else round(size * tokens / len(ids))
