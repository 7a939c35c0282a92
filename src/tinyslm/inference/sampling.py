"""Choosing the next token from logits.

Shape legend: v vocab_size, s tokens so far.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tinyslm.inference.settings import SamplingSettings


def choose(logits_v: Tensor, seen_s: Sequence[int], settings: SamplingSettings, generator: torch.Generator) -> int:
    """The id of the next token. `seen_s` holds the ids so far, the prompt's included, for the repetition penalty."""
    logits_v = logits_v.float()
    if settings.repetition_penalty != 1.0:
        logits_v = penalize(logits_v, seen_s, settings.repetition_penalty)
    if settings.temperature == 0:
        return int(logits_v.argmax())
    return int(torch.multinomial(filtered_probabilities(logits_v, settings), 1, generator=generator))


def penalize(logits_v: Tensor, seen_s: Sequence[int], penalty: float) -> Tensor:
    """Divide the positive logits of seen tokens by `penalty`, multiply the negative ones (Keskar et al., 2019)."""
    places_s = torch.as_tensor(seen_s, device=logits_v.device)
    scores = logits_v[places_s]
    return logits_v.index_put((places_s,), torch.where(scores > 0, scores / penalty, scores * penalty))


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
