"""Choosing the next token from logits.

Shape legend: v vocab_size, s tokens so far.
"""

import torch
from pydantic import Field
from torch import Tensor

from tinyslm.core.config import Section


class SamplingSettings(Section):
    """How text is drawn. The filters apply in the order of the fields; a temperature of 0 takes the likeliest token."""

    max_tokens: int = Field(default=200, gt=0, description="Most tokens to generate.")
    repetition_penalty: float = Field(
        default=1.0, gt=0, description="Makes tokens that were already seen less likely; 1: off."
    )
    temperature: float = Field(default=0.8, ge=0, description="Divides the logits; 0: always the likeliest token.")
    top_k: int = Field(default=0, ge=0, description="Keep the k likeliest tokens; 0: all.")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Keep the likeliest tokens that together have this probability."
    )
    min_p: float = Field(
        default=0.0, ge=0, le=1, description="Drop tokens less likely than this share of the likeliest."
    )
    seed: int | None = Field(default=None, description="Makes the draws repeatable; none: different each time.")
    stop: tuple[str, ...] = Field(default=(), description="Texts that end the generation; they are not part of it.")


def choose(logits_v: Tensor, seen_s: Tensor, settings: SamplingSettings, generator: torch.Generator) -> int:
    """The id of the next token. `seen_s` holds the ids so far, the prompt's included, for the repetition penalty."""
    logits_v = logits_v.float()
    if settings.repetition_penalty != 1.0:
        logits_v = penalize(logits_v, seen_s, settings.repetition_penalty)
    if settings.temperature == 0:
        return int(logits_v.argmax())
    return int(torch.multinomial(filtered_probabilities(logits_v, settings), 1, generator=generator))


def penalize(logits_v: Tensor, seen_s: Tensor, penalty: float) -> Tensor:
    """Divide the positive logits of seen tokens by `penalty`, multiply the negative ones (Keskar et al., 2019)."""
    scores = logits_v[seen_s]
    return logits_v.index_put((seen_s,), torch.where(scores > 0, scores / penalty, scores * penalty))


def filtered_probabilities(logits_v: Tensor, settings: SamplingSettings) -> Tensor:
    """Probabilities after temperature, top-k, top-p and min-p; the likeliest token always remains."""
    logits_v = logits_v / settings.temperature
    if 0 < settings.top_k < len(logits_v):
        logits_v = logits_v.masked_fill(logits_v < logits_v.topk(settings.top_k).values[-1], float("-inf"))
    probabilities = logits_v.softmax(-1)
    if settings.top_p < 1:
        ordered, places = probabilities.sort(descending=True)
        beyond = ordered.cumsum(-1) - ordered >= settings.top_p
        probabilities = probabilities.index_fill(0, places[beyond], 0.0)
    if settings.min_p:
        least = settings.min_p * probabilities.max()
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    return probabilities / probabilities.sum()
