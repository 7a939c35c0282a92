"""Rotary frequencies, stretched as a config asks so that a model reads further than it was trained for.

linear: all positions divided by a factor (Chen et al., 2023, arXiv:2306.15595). dynamic: a larger base the longer the
text ("NTK-aware", bloc97 and emozilla, 2023). llama3: slow waves stretched, fast ones kept, as Llama 3.1 was released.
yarn: the same idea by dimension, with warmer attention (Peng et al., 2023, arXiv:2309.00071). longrope: a divisor for
each frequency, one set for texts up to the original context and one for longer texts (Ding et al., 2024,
arXiv:2402.13753); once a text grows beyond the original context, the rotation of all its tokens changes.
"""

import math

import torch
from torch import Tensor

from tinyslm.model.config import ModelConfig, RopeScaling


def rope_frequencies(config: ModelConfig, theta: float, length: int) -> tuple[Tensor, float]:
    """Frequencies `[r/2]` in radians a token, for a text of `length` tokens, and the scale of sines and cosines."""
    scaling, dim = config.rope_scaling, config.rotary_dim
    original = scaling.original_context or config.context
    if scaling.kind == "dynamic":
        grown = scaling.factor * max(length, config.context) / config.context - (scaling.factor - 1)
        theta = theta * grown ** (dim / (dim - 2))
    frequencies = _frequencies(dim, theta)
    if scaling.kind == "linear":
        return frequencies / scaling.factor, 1.0
    if scaling.kind == "llama3":
        return _llama3(frequencies, scaling, original), 1.0
    if scaling.kind == "yarn":
        return _yarn(frequencies, scaling, original, theta), _attention_factor(scaling)
    if scaling.kind == "longrope":
        divisors = scaling.long_factor if length > original else scaling.short_factor
        return frequencies / torch.tensor(divisors, device="cpu"), longrope_attention_factor(scaling, original)
    return frequencies, 1.0


def without_rope_scaling(config: ModelConfig) -> ModelConfig:
    """The config without scaling: windowed blocks with frequencies of their own never look far."""
    return config.model_copy(update={"rope_scaling": RopeScaling()})


def _frequencies(dim: int, theta: float) -> Tensor:
    """theta ** (-2i / dim). On the CPU even while a model is laid out on the "meta" device: these are no weights."""
    return 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float32, device="cpu") / dim)


def _llama3(frequencies: Tensor, scaling: RopeScaling, original: int) -> Tensor:
    """Waves longer than original / low_freq_factor are stretched, shorter than original / high_freq_factor kept."""
    turns = original * frequencies / (2 * math.pi)  # full waves within the original context
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = keep.clamp(0, 1)
    return (1 - keep) * frequencies / scaling.factor + keep * frequencies


def _yarn(frequencies: Tensor, scaling: RopeScaling, original: int, theta: float) -> Tensor:
    """Between the dimensions that make beta_fast and beta_slow waves in the original context, a ramp."""
    dim = 2 * len(frequencies)

    def dimension_with(waves: float) -> float:
        return dim * math.log(original / (waves * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension_with(scaling.beta_fast), dimension_with(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    width = high - low if high != low else 0.001
    stretch = ((torch.arange(dim // 2, dtype=torch.float32, device="cpu") - low) / width).clamp(0, 1)
    return stretch * frequencies / scaling.factor + (1 - stretch) * frequencies


def _attention_factor(scaling: RopeScaling) -> float:
    if scaling.attention_factor:
        return scaling.attention_factor

    def warmth(weight: float) -> float:
        return 0.1 * weight * math.log(scaling.factor) + 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return warmth(scaling.mscale) / warmth(scaling.mscale_all_dim)
    return warmth(1.0)


def longrope_attention_factor(scaling: RopeScaling, original: int) -> float:
    """What queries and keys are multiplied by: as given, or sqrt(1 + ln factor / ln original) (Ding et al., 2024)."""
    if scaling.attention_factor:
        return scaling.attention_factor
    return math.sqrt(1 + math.log(scaling.factor) / math.log(original)) if scaling.factor > 1 else 1.0
