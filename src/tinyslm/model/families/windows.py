"""Which blocks see only a window, as the families say it in their `config.json`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.model.family import Part

if TYPE_CHECKING:
    from tinyslm.model.config import ModelConfig

SLIDING, FULL = "sliding_attention", "full_attention"


def sliding_layers(layer_types: Any, depth: int) -> tuple[int, ...]:
    """The numbers of the windowed blocks in a list of `layer_types`."""
    if not isinstance(layer_types, list) or len(layer_types) != depth or set(layer_types) - {SLIDING, FULL}:
        raise TinyslmError(
            f"This model's config.json sets layer_types = {layer_types!r}, which tinyslm does not implement.",
            f'A list of {depth} entries is understood, each "{FULL}" or "{SLIDING}".',
        )
    return tuple(layer for layer, kind in enumerate(layer_types) if kind == SLIDING)


def layer_types(config: "ModelConfig") -> list[str]:
    """The list that transformers reads."""
    return [SLIDING if layer in config.window_layers else FULL for layer in range(config.depth)]


def all_but_every(period: int, depth: int) -> tuple[int, ...]:
    """Indices (from 0) of all blocks but every `period`-th one."""
    return tuple(layer for layer in range(depth) if (layer + 1) % period)


def window_but_every(period: int) -> Part:
    """Windows in all blocks but every `period`-th one, or as `layer_types` says."""

    def read(hf: Mapping[str, Any]) -> dict[str, Any]:
        depth, types = hf["num_hidden_layers"], hf.get("layer_types")
        layers = all_but_every(period, depth) if types is None else sliding_layers(types, depth)
        window = (hf.get("sliding_window", 4096) or 0) if layers else 0
        return {"window": window, "window_layers": layers if window else ()}

    def write(config: "ModelConfig") -> dict[str, Any]:
        return {"sliding_window": config.window or 4096, "layer_types": layer_types(config)}

    return Part(fields=("sliding_window", "layer_types"), read=read, write=write)


def window_everywhere(absent: int) -> Part:
    """Mistral's way: every block, or none. `absent`: the window where a `config.json` does not say."""

    def read(hf: Mapping[str, Any]) -> dict[str, Any]:
        window = hf.get("sliding_window", absent) or 0
        return {"window": window, "window_layers": tuple(range(hf["num_hidden_layers"])) if window else ()}

    return Part(fields=("sliding_window",), read=read, write=lambda config: {"sliding_window": config.window or None})


def _read_upper(hf: Mapping[str, Any]) -> dict[str, Any]:
    depth, types = hf["num_hidden_layers"], hf.get("layer_types")
    upper = tuple(range(depth))[hf.get("max_window_layers", 28) :]
    layers = upper if types is None else sliding_layers(types, depth)
    window = (hf.get("sliding_window", 4096) or 0) if hf.get("use_sliding_window") else 0
    return {"window": window if layers else 0, "window_layers": layers if window else ()}


def _write_upper(config: "ModelConfig") -> dict[str, Any]:
    return {
        "use_sliding_window": config.window > 0,
        "sliding_window": config.window or None,
        "max_window_layers": min(config.window_layers, default=config.depth),
        "layer_types": layer_types(config),
    }


WINDOW_IN_UPPER_LAYERS = Part(
    fields=("use_sliding_window", "sliding_window", "max_window_layers", "layer_types"),
    read=_read_upper,
    write=_write_upper,
)
"""Qwen's way: the blocks from some number on, and only when the window is switched on."""
