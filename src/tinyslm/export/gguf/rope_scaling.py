"""Stretched rotary positions in GGUF: a few metadata keys, for Llama 3 a tensor of divisors, for LongRoPE two."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tinyslm.core.errors import TinyslmError
from tinyslm.model.config import ModelConfig, RopeScaling
from tinyslm.model.rope_scaling import longrope_attention_factor

TENSOR = "rope_freqs.weight"

LONGROPE_TENSORS = {"short_factor": "rope_factors_short.weight", "long_factor": "rope_factors_long.weight"}
"""LongRoPE's divisors. With a context longer than the original one, llama.cpp uses the long ones for all texts."""

ROPE_TENSORS = frozenset({TENSOR, *LONGROPE_TENSORS.values()})

STEP = 256
"""llama.cpp rounds its context up to a multiple of this."""

# What llama.cpp computes YaRN's ramp with: no key of a file changes it in the architectures here.
YARN_FIXED = {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": True}

# What every published Llama 3 has: the tensor of divisors tells only the ratio of the bends to the context.
LLAMA3_BENDS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3_CONTEXT = 8192


def scaling_metadata(config: ModelConfig) -> dict[str, Any]:
    """The keys under `rope.scaling.`; the stretch of "llama3" itself is a tensor.

    Raises `TinyslmError` for what llama.cpp cannot compute.
    """
    scaling = config.rope_scaling
    trained_for = scaling.original_context or config.context
    if scaling.kind == "none":
        return {}
    if scaling.kind == "linear":
        return {"type": "linear", "factor": scaling.factor}
    if scaling.kind == "llama3":
        return {"original_context_length": trained_for}
    if scaling.kind == "longrope":
        if config.switch_length % STEP:
            raise _unsupported(f"LongRoPE with an original context of {trained_for} tokens (only multiples of {STEP})")
        factor = longrope_attention_factor(scaling, trained_for)
        return {"original_context_length": trained_for, "attn_factor": factor}
    if scaling.kind != "yarn":
        raise _unsupported(f'the scaling of rotary positions "{scaling.kind}"')
    for name, value in YARN_FIXED.items():
        if getattr(scaling, name) != value:
            raise _unsupported(f"{name} = {getattr(scaling, name)} in YaRN (only {value})")
    ratio = yarn_warmth(scaling) / _usual_warmth(scaling.factor)
    own = {} if math.isclose(ratio, 1, rel_tol=1e-6) else {"attn_factor": ratio}
    return {"type": "yarn", "factor": scaling.factor, "original_context_length": trained_for, **own}


def scaling_tensors(config: ModelConfig) -> dict[str, Tensor]:
    """The tensors of divisors by name, fp32 `[rotary_dim / 2]`; empty for kinds of scaling without divisors."""
    scaling = config.rope_scaling
    if scaling.kind == "llama3":
        return {TENSOR: divisors_of(scaling, config.rope_theta, config.rotary_dim)}
    if scaling.kind == "longrope":
        return {name: torch.tensor(getattr(scaling, ours)) for ours, name in LONGROPE_TENSORS.items()}
    return {}


def longrope_settings(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """`RopeScaling`'s settings for a file with both of LongRoPE's tensors; `TinyslmError` if a key is missing."""
    factors = {ours: tuple(tensors[name].float().tolist()) for ours, name in LONGROPE_TENSORS.items()}
    if "original_context_length" not in metadata:
        raise TinyslmError(
            "The file has LongRoPE's divisors, but no key rope.scaling.original_context_length.",
            "It is incomplete: get it again from its source.",
        )
    trained_for = int(metadata["original_context_length"])
    attention_factor = float(metadata.get("attn_factor", 1.0))
    return {"kind": "longrope", "original_context": trained_for, "attention_factor": attention_factor, **factors}


def scaling_settings(metadata: Mapping[str, Any], divisors: Tensor | None, theta: float) -> dict[str, Any]:
    """`RopeScaling`'s settings that the keys under `rope.scaling.` and the tensor of divisors mean."""
    kind = metadata.get("type", "none")
    factor = float(metadata.get("factor", 1.0))
    if divisors is not None:
        return _llama3_settings(divisors, theta, int(metadata.get("original_context_length", LLAMA3_CONTEXT)))
    if kind == "none" or (kind == "linear" and factor in (0.0, 1.0)):
        return {"kind": "none"}
    if kind == "linear":
        return {"kind": "linear", "factor": factor}
    if kind == "yarn" and "original_context_length" in metadata:
        ratio = float(metadata.get("attn_factor", 1.0))
        own = {} if ratio == 1 else {"attention_factor": ratio * _usual_warmth(factor)}
        trained_for = int(metadata["original_context_length"])
        return {"kind": "yarn", "factor": factor, "original_context": trained_for, **own}
    raise TinyslmError(
        f"The file stretches rotary positions in a way that is not supported (rope.scaling.type {kind!r}).",
        "Import another model, or one without it.",
    )


def divisors_of(scaling: RopeScaling, theta: float, rotary_dim: int) -> Tensor:
    """What llama.cpp divides each rotary frequency by for Llama 3's scaling, fp32 [rotary_dim / 2].

    The inverse of what `model.rope_scaling` multiplies them by: 1 for fast waves, `factor` for slow ones.
    """
    frequencies = theta ** -(torch.arange(0, rotary_dim, 2, dtype=torch.float64) / rotary_dim)
    turns = scaling.original_context * frequencies / (2 * math.pi)
    keep = ((turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)).clamp(0, 1)
    return (1 / ((1 - keep) / scaling.factor + keep)).float()


def yarn_warmth(scaling: RopeScaling) -> float:
    """What YaRN multiplies queries and keys by: as given, or from the factor (as in transformers)."""
    if scaling.attention_factor:
        return scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return _usual_warmth(scaling.factor, scaling.mscale) / _usual_warmth(scaling.factor, scaling.mscale_all_dim)
    return _usual_warmth(scaling.factor)


def comparable(config: ModelConfig) -> tuple[Any, ...]:
    """What of the scaling changes the mathematics, with its defaults filled in."""
    scaling = config.rope_scaling
    trained_for = (scaling.original_context or config.context) if scaling.kind in ("llama3", "yarn", "longrope") else 0
    if scaling.kind == "longrope":
        factors = (*scaling.short_factor, *scaling.long_factor, longrope_attention_factor(scaling, trained_for))
        return (scaling.kind, trained_for, *(float(f"{value:.5g}") for value in factors))
    what: dict[str, tuple[float, ...]] = {
        "none": (),
        "linear": (scaling.factor,),
        "dynamic": (scaling.factor,),
        "llama3": (scaling.factor, scaling.low_freq_factor, scaling.high_freq_factor),
        "yarn": (scaling.factor, round(yarn_warmth(scaling), 5), scaling.beta_fast, scaling.beta_slow),
    }
    return (scaling.kind, trained_for, *what[scaling.kind])


def _llama3_settings(divisors: Tensor, theta: float, trained_for: int) -> dict[str, Any]:
    """The usual bends with the factor that the divisors reach, if they give these very divisors."""
    if bool((divisors == 1).all()):
        return {"kind": "none"}
    factor = max(1.0, round(float(divisors.max()), 4))
    settings: dict[str, Any] = {"kind": "llama3", "factor": factor, "original_context": trained_for, **LLAMA3_BENDS}
    if not torch.allclose(divisors.float(), divisors_of(RopeScaling(**settings), theta, 2 * len(divisors)), rtol=1e-3):
        raise TinyslmError(
            f"The divisors of rotary frequencies in {TENSOR} do not follow Llama 3's rule.",
            "This model's positions are stretched in a way that is not supported: import another one.",
        )
    return settings


def _usual_warmth(factor: float, weight: float = 1.0) -> float:
    """Peng et al., 2023 (arXiv:2309.00071), section 3.4."""
    return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0


def _unsupported(what: str) -> TinyslmError:
    return TinyslmError(f"llama.cpp cannot compute {what}.", "Export to another format.")
