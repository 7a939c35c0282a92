"""Train tokenizers on texts."""

from __future__ import annotations

from collections.abc import Iterable

from tinyslm.tokenizer.chat import CHATML
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.tokenizer.kinds import KINDS
from tinyslm.tokenizer.kinds.byte_level import BPE, bpe_merges
from tinyslm.tokenizer.kinds.kind import Wanted
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.vocabulary import SPECIAL_SLOTS, byte_level_backend, split_of


def train_tokenizer(
    texts: Iterable[str], *, kind: str = "bpe", vocab_size: int = 0, digits: str = "three", case: str = "kept"
) -> Tokenizer:
    """Train a tokenizer on `texts`, which are read once. Equal texts give equal tokenizers.

    kind: a name in `KINDS`: "bpe" learns frequent byte sequences; "unigram" the likeliest pieces of words; "wordpiece"
        frequent byte sequences, which it looks for from the left, the longest first; "char" has one token for each
        character, the most frequent ones if not all fit; "byte" has one token for each byte and reads no text.
    vocab_size: number of tokens, including at least 16 special ones; rounded up to a multiple of 64, at least the
        smallest size of the kind (320; "wordpiece": 576). For "char" it is the maximum; "byte" has 320. 0: 4096,
        or fewer if the texts are too short.
    digits: how many of them a token may hold, "one", "two", "three", or any number, "free". "char" and "byte" have one.
    case: "kept", or "marked": capitals become small letters behind a mark; "char" and "byte" keep them.

    Raises `TinyslmError` for an unknown kind, or when `vocab_size` is larger than the texts allow.
    """
    chosen = KINDS[kind]
    wanted = Wanted(chosen.rounded(vocab_size) if vocab_size else None, digits, case == "marked")
    return Tokenizer(chosen.learn(texts, wanted), chat_template=CHATML)


def train_as(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """`train_tokenizer` with these settings."""
    return train_tokenizer(texts, **config.model_dump())


def train_tokenizers(
    texts: Iterable[str], sizes: Iterable[int], like: TokenizerConfig | None = None
) -> dict[int, Tokenizer]:
    """Train "bpe" tokenizers of several sizes at the cost of the largest; leaves out sizes that need more text.

    Each equals the result of `train_as` for its size and the other settings of `like`.
    """
    sizes = sorted({BPE.rounded(size) for size in sizes})
    like = like or TokenizerConfig()
    wanted = Wanted(sizes[-1], like.digits, like.case == "marked")
    merges, _ = bpe_merges(texts, sizes[-1] - 256 - SPECIAL_SLOTS, wanted)
    cuts = {size: size - 256 - SPECIAL_SLOTS for size in sizes}
    return {
        size: Tokenizer(
            byte_level_backend(merges[:cut], split_of(like.digits), marked=wanted.marked), chat_template=CHATML
        )
        for size, cut in cuts.items()
        if cut <= len(merges)
    }
