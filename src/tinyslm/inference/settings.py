"""Sampling settings: how text is drawn from a model."""

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

    The defaults suit small models. A model's `generation_config.json` overrides them, and a request overrides both,
    field by field (`over`).
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
        default=1.0, ge=0, le=1, description="Keep the likeliest tokens of this total probability; 0: only one."
    )
    min_p: float = Field(
        default=0.05, ge=0, le=1, description="Drop tokens less likely than this share of the likeliest one; 0: off."
    )
    seed: int | None = Field(
        default=None, ge=0, lt=2**63, description="Makes the draws repeatable; sample i uses seed + i."
    )
    stop: tuple[Annotated[str, Field(max_length=LONGEST_STOP)], ...] = Field(
        default=(),
        max_length=MOST_STOPS,
        description=f"A text that ends the generation; at most {MOST_STOPS} of up to {LONGEST_STOP} characters.",
    )

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0 or self.top_p == 0

    def over(self, usual: SamplingSettings) -> SamplingSettings:
        """`usual`, overridden by the fields that were given here, or whose default this class changes."""
        fields = SamplingSettings.model_fields
        own = [name for name, field in type(self).model_fields.items() if field.default != fields[name].default]
        return usual.model_copy(update={name: getattr(self, name) for name in {*own, *self.model_fields_set}})


class GreedySampling(SamplingSettings):
    """As for other texts, but greedy: an agent is to be right rather than varied."""

    max_tokens: int = Field(default=512, gt=0, description="Most tokens to generate in each step.")
    temperature: float = Field(default=0.0, ge=0, description="Divides the logits; 0: always the likeliest token.")


def read_default_sampling(path: str | Path) -> SamplingSettings:
    """The default settings of the model at `path`, from its `generation_config.json`.

    `do_sample: false` takes the likeliest token, as in transformers. If the file gives any of temperature, top_k, top_p
    and min_p, the others are off; if it gives none of them, or does not exist, tinyslm's defaults hold.
    Raises `TinyslmError` for a damaged file and for values out of range.
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
