"""How well tokenizers fit a text, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinyslm.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Fit:
    """One tokenizer on one set of documents."""

    name: str
    vocab_size: int
    bytes_per_token: float  # UTF-8 bytes; more means fewer tokens to train on and to generate
    tokens_per_document: float
    vocabulary_used: float  # share of the ordinary ids, 0 to 1, that the documents contain


def compare(tokenizers: Mapping[str, Tokenizer], documents: Sequence[str]) -> list[Fit]:
    """The fit of each named tokenizer to `documents` (at least one, not all empty), the best compression first."""
    size = sum(len(document.encode("utf-8", "replace")) for document in documents)
    fits = []
    for name, tokenizer in tokenizers.items():
        encoded = tokenizer.encode_batch(documents)
        tokens = sum(map(len, encoded))
        ordinary = tokenizer.vocab_size - len(tokenizer.special_ids)
        fits.append(
            Fit(
                name=name,
                vocab_size=tokenizer.vocab_size,
                bytes_per_token=size / tokens,
                tokens_per_document=tokens / len(documents),
                vocabulary_used=len(set().union(*encoded)) / ordinary,
            )
        )
    return sorted(fits, key=lambda fit: -fit.bytes_per_token)
