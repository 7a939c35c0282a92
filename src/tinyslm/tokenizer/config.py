"""Settings of the tokenizer that training makes when none is given."""

from typing import Literal

from pydantic import Field

from tinyslm.core.config import Section


class TokenizerConfig(Section):
    """Kind and size of a tokenizer."""

    kind: Literal["bpe", "byte", "char"] = Field(
        default="bpe", description='"bpe" learns frequent byte sequences; "char" and "byte" have one token for each.'
    )
    vocab_size: int = Field(
        default=0,
        ge=0,
        le=1 << 20,
        description="Number of tokens, a multiple of 64 of at least 320; 0: 4096, or as many as the text supports.",
    )
