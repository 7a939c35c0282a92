"""The architectures that llama.cpp runs, by our families: names, keys and tensors.

What is fixed for each was read in llama.cpp's source (`src/models/*.cpp`).
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.export.gguf import tensor_names as names
from tinyslm.export.gguf.architecture import Architecture, Settings
from tinyslm.model.config import ModelConfig
from tinyslm.model.families.windows import all_but_every

RMS = {"norm_eps": "attention.layer_norm_rms_epsilon"}
LAYER_NORM = {"norm_eps": "attention.layer_norm_epsilon"}
BEFORE = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
AFTER = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
AROUND = {**AFTER, "attn_norm": "input_layernorm", "ffn_norm": "pre_feedforward_layernorm"}


def architecture_of_gguf(name: str) -> Architecture:
    """The architecture that a file's `general.architecture` names; raises `TinyslmError` for an unknown one."""
    for architecture in ARCHITECTURES.values():
        if architecture.name == name:  # of families that share a name, the first is the general one
            return architecture
    known = sorted({architecture.name for architecture in ARCHITECTURES.values()})
    raise TinyslmError(
        f"The file is of the architecture {name[:40]!r}, which is not supported.",
        f"Import a model of one of these architectures: {', '.join(known)}.",
    )


def _every_fourth_unrotated(settings: Settings, _: Mapping[str, Any]) -> Settings:
    return {"unrotated_layers": tuple(range(3, settings["depth"], 4))}


def _granite_keys(config: ModelConfig) -> dict[str, Any]:
    """llama.cpp's granite has rotary positions unless `rope.scaling.finetuned` is false."""
    unrotated = {"rope.scaling.finetuned": False} if config.unrotated_layers else {}
    return {"attention.scale": config.query_scale, **unrotated}


def _granite_implied(settings: Settings, keys: Mapping[str, Any]) -> Settings:
    scale, usual = keys.get("attention.scale", 0.0), settings["head_dim"] ** -0.5
    implied: Settings = {"attention_scale": 0.0 if math.isclose(scale, usual, rel_tol=1e-6) else scale}
    if not keys.get("rope.scaling.finetuned", True):
        # llama.cpp's name for Granite 4's dense models is Granite 3's; only Granite 4 may be without positions.
        implied |= {"family": "granitemoehybrid", "unrotated_layers": tuple(range(settings["depth"]))}
    return implied


def _neox_keys(config: ModelConfig) -> dict[str, Any]:
    return {"use_parallel_residual": config.residual == "parallel"}


def _neox_implied(_: Settings, keys: Mapping[str, Any]) -> Settings:
    return {"residual": "parallel" if keys.get("use_parallel_residual", True) else "serial"}


GEMMA2_PERIOD, GEMMA3_PERIOD, OLMO3_PERIOD = 2, 6, 4
GEMMA2_WINDOW = 4096


def _window_keys(config: ModelConfig) -> dict[str, Any]:
    """The window, and how many blocks there are to one that sees everything."""
    if not config.window_layers:
        return {}
    seeing = [layer for layer in range(config.depth) if layer not in config.window_layers]
    period = seeing[0] + 1 if seeing else config.depth + 1
    return {"attention.sliding_window": config.window, "attention.sliding_window_pattern": period}


def _windows(settings: Settings, keys: Mapping[str, Any], period: int) -> Settings:
    """The settings of windows. period: the default, if the file gives none."""
    window, period = keys.get("attention.sliding_window", 0), keys.get("attention.sliding_window_pattern", period)
    return {"window": window, "window_layers": all_but_every(period, settings["depth"]) if window else ()}


def _olmo_implied(settings: Settings, keys: Mapping[str, Any]) -> Settings:
    """llama.cpp has one name for OLMo 2 and 3; only the latter has windows. All blocks have the same rotary base."""
    if not keys.get("attention.sliding_window"):
        return {}
    return {"family": "olmo3", "local_rope_theta": settings["rope_theta"], **_windows(settings, keys, OLMO3_PERIOD)}


def _gemma2_keys(config: ModelConfig) -> dict[str, Any]:
    if not config.attention_cap or not config.logit_cap:
        raise TinyslmError(
            "llama.cpp's architecture gemma2 always soft-caps attention scores and logits, but in this model "
            "attention_cap or logit_cap is 0.",
            "Export to another format.",
        )
    return {"attention.sliding_window": config.window} if config.window else {}


def _gemma2_implied(settings: Settings, keys: Mapping[str, Any]) -> Settings:
    """Caps, scales and windows as in llama.cpp's source; with 46 blocks (27B), attention's scale depends on `dim`."""
    windows = _windows(settings, {"attention.sliding_window": GEMMA2_WINDOW, **keys}, GEMMA2_PERIOD)
    return {
        "attention_cap": 50.0,
        "logit_cap": 30.0,
        **{key: settings[key] for key in ("attention_cap", "logit_cap") if key in settings},
        "embedding_scale": settings["dim"] ** 0.5,
        "attention_scale": (settings["dim"] // settings["heads"]) ** -0.5 if settings["depth"] == 46 else 0.0,
        **windows,
    }


def _gemma3_keys(config: ModelConfig) -> dict[str, Any]:
    base = {"rope.freq_base_swa": config.local_rope_theta or config.rope_theta} if config.window_layers else {}
    return {**_window_keys(config), **base}


def _gemma3_implied(settings: Settings, keys: Mapping[str, Any]) -> Settings:
    """Scales are in llama.cpp's source; with 62 blocks (the 27B model) that of attention goes by `dim`."""
    dim, heads, depth = settings["dim"], settings["heads"], settings["depth"]
    windows = _windows(settings, keys, GEMMA3_PERIOD)
    window = windows["window"]
    return {
        "embedding_scale": dim**0.5,
        "attention_scale": (dim // heads) ** -0.5 if depth == 62 else 0.0,
        **windows,
        "local_rope_theta": keys.get("rope.freq_base_swa", 10_000.0) if window else settings["rope_theta"],
    }


_LLAMA = Architecture(
    family="llama",
    name="llama",
    keys=RMS,
    parts=[
        *names.outer(),
        *names.norms(BEFORE),
        *names.attention(neighbouring=True, biases="optional"),
        *names.feed_forward(biases="optional"),
    ],
    divisors=True,
)
_GRANITE = replace(
    _LLAMA,
    family="granite",
    name="granite",
    keys={
        **RMS,
        "embedding_scale": "embedding_scale",
        "residual_scale": "residual_scale",
        "logit_divisor": "logit_scale",
    },
    more_keys=_granite_keys,
    implied=_granite_implied,
)
_STABLELM = Architecture(
    family="stablelm",
    name="stablelm",
    keys=LAYER_NORM,
    parts=[
        *names.outer(layer_norm=True, own_output=True),
        *names.norms({"attn_norm": "input_layernorm"}, layer_norm=True),
        *(replace(part, required=False) for part in names.norms({"ffn_norm": BEFORE["ffn_norm"]}, layer_norm=True)),
        *names.attention(biases="optional"),
        *names.feed_forward(),
    ],
    more_keys=lambda config: {"use_parallel_residual": config.residual != "serial"},
    parallel_without="post_attention_layernorm.weight",
)
_SMOLLM3 = replace(_LLAMA, family="smollm3", name="smollm3", implied=_every_fourth_unrotated, divisors=False)
_QWEN2 = Architecture(
    family="qwen2",
    name="qwen2",
    keys=RMS,
    parts=[
        *names.outer(),
        *names.norms(BEFORE),
        *names.attention(biases="optional"),
        *names.feed_forward(),
    ],
)
_QWEN3 = replace(_QWEN2, family="qwen3", name="qwen3", parts=[*_QWEN2.parts, *names.qk_norms()])
_OLMO2 = Architecture(
    family="olmo2",
    name="olmo2",
    keys=RMS,
    parts=[
        *names.outer(own_output=True),
        *names.norms(AFTER),
        *names.attention(),
        *names.qk_norms(),
        *names.feed_forward(),
    ],
    implied=_olmo_implied,
    windows=True,
)
_OLMO3 = replace(_OLMO2, family="olmo3", more_keys=_window_keys)
_GEMMA2 = Architecture(
    family="gemma2",
    name="gemma2",
    keys={**RMS, "attention_cap": "attn_logit_softcapping", "logit_cap": "final_logit_softcapping"},
    parts=[
        *names.outer(norm="norm", output=False),
        *names.norms(AROUND, change="norm"),
        *names.attention(),
        *names.feed_forward(),
    ],
    more_keys=_gemma2_keys,
    implied=_gemma2_implied,
    windows=True,
)
_GEMMA3 = Architecture(
    family="gemma3",
    name="gemma3",
    keys={**RMS, "logit_cap": "final_logit_softcapping"},
    parts=[
        *names.outer(norm="norm"),
        *names.norms(AROUND, change="norm"),
        *names.attention(),
        *names.qk_norms(change="norm"),
        *names.feed_forward(),
    ],
    more_keys=_gemma3_keys,
    implied=_gemma3_implied,
    windows=True,
)
_PHI3 = Architecture(
    family="phi3",
    name="phi3",
    keys=RMS,
    parts=[
        *names.outer(),
        *names.norms(BEFORE),
        *names.attention(fused=True),
        *names.feed_forward(fused=True),
    ],
    longrope=True,
)
_PHI2 = Architecture(
    family="phi",
    name="phi2",
    keys=LAYER_NORM,
    parts=[
        *names.outer(layer_norm=True, head_bias=True, own_output=True),
        *names.norms({"attn_norm": "input_layernorm"}, layer_norm=True),
        *names.attention(biases="required"),
        *names.feed_forward(gated=False, biases="required"),
    ],
)
_GPT2 = Architecture(
    family="gpt2",
    name="gpt2",
    keys=LAYER_NORM,
    parts=[
        *names.outer(learned=True, layer_norm=True),
        *names.norms(BEFORE, layer_norm=True),
        *names.attention(fused=True, biases="required"),
        *names.feed_forward(gated=False, biases="required"),
    ],
    rotary=False,
)
_GPT_NEOX = replace(
    _GPT2,
    family="gpt_neox",
    name="gptneox",
    parts=[
        *names.outer(layer_norm=True, own_output=True),
        *names.norms(BEFORE, layer_norm=True),
        *names.attention(fused=True, biases="required"),
        *names.feed_forward(gated=False, biases="required"),
    ],
    more_keys=_neox_keys,
    implied=_neox_implied,
    rotary=True,
)

ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.family: architecture
    for architecture in (
        _LLAMA,
        replace(_LLAMA, family="mistral"),
        _GRANITE,
        replace(_GRANITE, family="granitemoehybrid"),
        _SMOLLM3,
        _QWEN2,
        _QWEN3,
        _OLMO2,
        _OLMO3,
        _GEMMA2,
        _GEMMA3,
        _PHI3,
        _PHI2,
        _GPT2,
        replace(_GPT2, family="tinyslm"),
        _GPT_NEOX,
        _STABLELM,
    )
}
