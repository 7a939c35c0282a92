"""SmolLM3 (Hugging Face, 2025): Llama's block; every fourth one attends without positions (NoPE)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tinyslm.model.families.llama import LLAMA
from tinyslm.model.families.windows import layer_types, sliding_layers
from tinyslm.model.family import Part


def _read(hf: Mapping[str, Any]) -> dict[str, Any]:
    depth, interval = hf["num_hidden_layers"], hf.get("no_rope_layer_interval", 4)
    rotated = hf.get("no_rope_layers") or [(layer + 1) % interval for layer in range(depth)]
    unrotated = tuple(layer for layer, turns in enumerate(rotated) if not turns)
    window = (hf.get("sliding_window") or 0) if hf.get("use_sliding_window") else 0
    types = hf.get("layer_types")
    layers = (unrotated if types is None else sliding_layers(types, depth)) if window else ()
    return {"unrotated_layers": unrotated, "window": window if layers else 0, "window_layers": layers}


SMOLLM3 = replace(
    LLAMA,
    name="smollm3",
    model_type="smollm3",
    architecture="SmolLM3ForCausalLM",
    defaults={"tied": True, "rope_theta": 2_000_000.0},
    absent={"norm_eps": 1e-6, "tied": True, "rope_theta": 2_000_000.0, "kv_heads": 4},
    constants={"hidden_act": ("silu", "swish"), "max_window_layers": (28, *range(1000))},
    parts=(
        Part(
            fields=(
                "no_rope_layers", "no_rope_layer_interval", "use_sliding_window", "sliding_window", "layer_types",
            ),
            read=_read,
            write=lambda config: {
                "no_rope_layers": [int(layer not in config.unrotated_layers) for layer in range(config.depth)],
                "use_sliding_window": config.window > 0,
                "sliding_window": config.window or None,
                "layer_types": layer_types(config),
            },
        ),
    ),
    habits=lambda dim, depth: {"unrotated_layers": tuple(range(3, depth, 4))},
)  # fmt: skip
