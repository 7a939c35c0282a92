"""How text is drawn from a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tinyslm.core.config import Section, build_config
from tinyslm.core.json_files import read_json
from tinyslm.inference.stop import LONGEST_STOP, MOST_STOPS

GENERATION = "generation_config.json"
_FILTERS = ("temperature", "top_k", "top_p", "min_p")


class SamplingSettings(Section):
    """The filters apply in the order of the fields; a temperature or top_p of 0 takes the likeliest token.

    The defaults suit small models. What a model's `generation_config.json` says takes their place, and what a request
    says takes the place of both, field by field (`over`).
    """

    max_tokens: int = Field(default=200, gt=0, description="Most tokens to generate for each sample.")
    repetition_penalty: float = Field(
        default=1.0, gt=0, description="Makes tokens that were already seen less likely; 1: off."
    )
    frequency_penalty: float = Field(
        default=0.0, ge=-2, le=2, description="Taken from a token's logit for each time it was generated; 0: off."
    )
    presence_penalty: float = Field(
        default=0.0, ge=-2, le=2, description="Taken from a token's logit once it was generated; 0: off."
    )
    temperature: float = Field(default=0.7, ge=0, description="Divides the logits; 0: always the likeliest token.")
    top_k: int = Field(default=0, ge=0, description="Keep the k likeliest tokens; 0: all.")
    top_p: float = Field(
        default=1.0, ge=0, le=1, description="Keep the likeliest tokens that together have this probability; 0: one."
    )
    min_p: float = Field(
        default=0.05, ge=0, le=1, description="Drop tokens less likely than this share of the likeliest; 0: none."
    )
    seed: int | None = Field(
        default=None, ge=0, lt=2**63, description="Makes the draws repeatable; sample i uses seed + i."
    )
    stop: tuple[Annotated[str, Field(max_length=LONGEST_STOP)], ...] = Field(
        default=(),
        max_length=MOST_STOPS,
        description=f"A text of at most {LONGEST_STOP} characters that ends the generation; up to {MOST_STOPS} times.",
    )

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0 or self.top_p == 0

    def over(self, usual: SamplingSettings) -> SamplingSettings:
        """`usual` with what was given here, or has a default of its own in the class of these settings."""
        fields = SamplingSettings.model_fields
        own = [name for name, field in type(self).model_fields.items() if field.default != fields[name].default]
        return usual.model_copy(update={name: getattr(self, name) for name in {*own, *self.model_fields_set}})


def usual_sampling(path: str | Path) -> SamplingSettings:
    """How text is drawn from the model at `path` where a request says nothing: as its `generation_config.json` says.

    `do_sample: false` takes the likeliest token, as in transformers. If the file names any of temperature, top_k, top_p
    and min_p, the others are off; if it names none of them (or there is no file), the defaults hold.
    Raises `TinyslmError` for values that are not possible.
    """
    file = Path(path) / GENERATION
    said = read_json(file, remedy="Restore it from a copy, or remove it.") if file.is_file() else {}
    given: dict[str, Any] = {
        name: said[name] for name in (*_FILTERS, "repetition_penalty") if said.get(name) is not None
    }
    if "top_k" in given and isinstance(given["top_k"], int):
        given["top_k"] = max(0, given["top_k"])
    if said.get("do_sample") is False:
        given["temperature"] = 0.0
    off = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} if not given.keys().isdisjoint(_FILTERS) else {}
    return build_config(SamplingSettings, off | given, origin=str(file))
