"""Settings of the tokenizer that training makes when none is given."""

from typing import Any, Literal

from pydantic import Field, field_validator

from tinyslm.core.config import Section
from tinyslm.core.errors import did_you_mean


class TokenizerConfig(Section):
    """Kind and size of a tokenizer."""

    kind: str = Field(
        default="bpe",
        description='"bpe", "unigram" and "wordpiece" learn parts of words; "char" and "byte" have one token for each.',
    )
    vocab_size: int = Field(
        default=0,
        ge=0,
        le=1 << 20,
        description="Number of tokens, a multiple of 64 of at least 320; 0: 4096, or as many as the text supports.",
    )
    digits: Literal["one", "two", "three", "free"] = Field(
        default="three", description='How many digits a token may hold at most; "free": any number.'
    )

    case: Literal["kept", "marked"] = Field(
        default="kept",
        description='How capitals are written: "kept", or "marked": as small letters behind a mark, so that "The" and '
        '"the" share a token.',
    )

    @field_validator("kind")
    @classmethod
    def _known(cls, name: str) -> str:
        from tinyslm.tokenizer.kinds import KINDS

        if name not in KINDS:
            from tinyslm.core.plugins import load_plugins

            load_plugins()  # those of installed packages
        if name not in KINDS:
            raise ValueError(f'there is no tokenizer kind "{name}". {did_you_mean(name, KINDS)}')
        return name

    @property
    def known_size(self) -> int | None:
        """The number of tokens; None if it depends on the text."""
        from tinyslm.tokenizer.kinds import KINDS

        return KINDS[self.kind].size(self.vocab_size)

    @property
    def sample(self) -> int:
        """Bytes of text that are enough to learn the tokenizer from; 0: as many as there are."""
        from tinyslm.tokenizer.kinds import KINDS
        from tinyslm.tokenizer.kinds.kind import DEFAULT

        return KINDS[self.kind].sample * (self.vocab_size or DEFAULT)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that tell one tokenizer from another; of those added in later versions, only changed ones."""
        return self.model_dump(exclude_defaults=True) | {"kind": self.kind, "vocab_size": self.vocab_size}
