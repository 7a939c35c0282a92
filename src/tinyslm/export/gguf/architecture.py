"""How llama.cpp sees a family: its name for it, its settings and its tensors, read in both directions.

`metadata` and `tensors_to_gguf` serve export, `settings` and `tensors_from_gguf` import. What llama.cpp has fixed in
its source, and no key can change, is `implied`: an import takes it over, an export demands it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.export.gguf import tensor_names as names
from tinyslm.export.gguf.rope_scaling import (
    LONGROPE_TENSORS,
    ROPE_TENSORS,
    comparable,
    longrope_settings,
    scaling_metadata,
    scaling_settings,
    scaling_tensors,
)
from tinyslm.export.gguf.rope_scaling import TENSOR as ROPE_DIVISORS
from tinyslm.export.gguf.tensor_names import Part
from tinyslm.model.config import ModelConfig

Settings = dict[str, Any]

REQUIRED = {
    "depth": "block_count",
    "dim": "embedding_length",
    "ffn_dim": "feed_forward_length",
    "heads": "attention.head_count",
    "context": "context_length",
}
BIASES = {
    "attention_bias": "q_proj.bias",
    "output_bias": "o_proj.bias",
    "ffn_bias": "up_proj.bias",
    "head_bias": "lm_head.bias",
}
NO_MATHEMATICS = {"family", "context", "dropout", "init_std"}


@dataclass(frozen=True)
class Architecture:
    """A family as llama.cpp sees it."""

    family: str
    name: str
    """`general.architecture`, and the beginning of every key about the model's shape."""
    keys: Mapping[str, str]
    """Our setting -> GGUF's key (after the architecture's name), besides those that every architecture has."""
    parts: Sequence[Part]
    more_keys: Callable[[ModelConfig], dict[str, Any]] = lambda config: {}
    """Keys whose values are not those of our settings."""
    implied: Callable[[Settings, Mapping[str, Any]], Settings] = lambda settings, values: {}
    """Settings that follow from those that the file tells, and from the keys (without the architecture's name)."""
    rotary: bool = True
    divisors: bool = False
    """Whether llama.cpp reads the tensor of frequency divisors (Llama 3's scaling)."""
    longrope: bool = False
    """Whether llama.cpp reads LongRoPE's two tensors of divisors."""
    parallel_without: str = ""
    """Suffix of a tensor's name in a `Decoder`: if a file lacks this tensor, llama.cpp computes attention and
    feed-forward in parallel, whatever the metadata says."""
    windows: bool = False
    """Whether llama.cpp computes attention within a window."""

    def context(self, config: ModelConfig) -> int:
        """The longest context that llama.cpp computes correctly: where it ignores windows, one window; with LongRoPE,
        the original context, since it would apply the long divisors to short texts too."""
        most = config.switch_length or config.context
        return min(most, config.window) if config.window and not self.windows else most

    def metadata(self, config: ModelConfig) -> dict[str, Any]:
        """The keys that describe the architecture: whole numbers, floats, truth values and texts.

        Raises `TinyslmError` for scaled positions that llama.cpp cannot compute.
        """
        own = {theirs: getattr(config, ours) for ours, theirs in {**REQUIRED, **self.keys}.items()}
        own |= {"attention.head_count_kv": config.kv_heads, "vocab_size": config.vocab_size}
        own |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
        own |= {"context_length": self.context(config), **self.more_keys(config)}
        if self.rotary:
            own |= {"rope.dimension_count": config.rotary_dim, "rope.freq_base": config.rope_theta}
            own |= {f"rope.scaling.{key}": value for key, value in scaling_metadata(config).items()}
        return {"general.architecture": self.name, **{f"{self.name}.{key}": value for key, value in own.items()}}

    def settings(self, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Settings:
        """The settings of `ModelConfig` that a file's metadata and tensors mean.

        `tensors` may load lazily: only shapes are looked at, and the small tensor of rotary divisors. Raises
        `TinyslmError` when a key is missing or has a value that this architecture cannot have.
        """
        prefix = f"{self.name}."
        values = {
            key.removeprefix(prefix): _written(value) for key, value in metadata.items() if key.startswith(prefix)
        }
        settings: Settings = {"family": self.family}
        settings |= {ours: self._one(values, theirs) for ours, theirs in REQUIRED.items()}
        settings |= {ours: self._one(values, theirs) for ours, theirs in self.keys.items() if theirs in values}
        heads = settings["heads"]
        values.setdefault("attention.head_count_kv", heads)
        values.setdefault("attention.key_length", settings["dim"] // max(1, heads))
        settings["kv_heads"] = self._one(values, "attention.head_count_kv")
        settings["head_dim"] = self._one(values, "attention.key_length")
        if "token_embd.weight" in tensors:
            settings["vocab_size"] = tensors["token_embd.weight"].shape[0]
        settings["tied"] = "output.weight" not in tensors
        settings |= {ours: self._has(ending, tensors) for ours, ending in BIASES.items()}
        if self.parallel_without:
            settings["residual"] = "serial" if self._has(self.parallel_without, tensors) else "parallel_one_norm"
        settings |= self._rotary_settings(values, tensors, settings["head_dim"]) if self.rotary else {}
        return {**settings, **self.implied(settings, values)}

    def tensors_to_gguf(self, config: ModelConfig, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """GGUF's tensors, one at a time; a tied output product is not among `tensors`."""
        yield from self._scaling_tensors(config).items()
        for part in self.written_parts(config, tensors):
            yield part.outside, names.to_gguf(part, tensors, (config.heads, config.kv_heads))

    def written_parts(self, config: ModelConfig, tensors: Collection[str]) -> list[Part]:
        """The parts that are written for a model with these tensors."""
        return names.written_parts(self.parts, tensors, config.depth, tied=config.tied)

    def tensors_from_gguf(
        self, config: ModelConfig, tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size]
    ) -> Iterator[tuple[str, Tensor]]:
        """A file's tensors under `Decoder`'s names, one at a time; `expected` has the shapes of a `Decoder`'s tensors.

        Raises `TinyslmError` for tensors that this architecture does not have.
        """
        known = names.known_names(self.parts, config.depth) | ROPE_TENSORS
        if unknown := sorted(name for name in tensors if name not in known):
            raise TinyslmError(
                f"The file has a tensor {unknown[0]!r} that the architecture {self.name} does not have here.",
                "Leaving it out could give wrong results, so it is refused: import another model.",
            )
        yield from names.from_gguf(self.parts, tensors, expected, (config.heads, config.kv_heads), config.depth)

    def why_not(self, config: ModelConfig, tensors: Collection[str]) -> str:
        """Why llama.cpp cannot run such a model, or "".

        The metadata is made up and read back, and nothing that belongs to the mathematics may be lost on the way.
        """
        if config.window and not self.windows:
            config = config.model_copy(update={"context": self.context(config), "window": 0, "window_layers": ()})
        try:
            shapes = {part.outside: torch.empty(config.vocab_size, 0) for part in self.written_parts(config, tensors)}
            shapes |= self._scaling_tensors(config)
            settings = {**self.settings(self.metadata(config), shapes), "tied": config.tied}
            read = build_config(ModelConfig, settings, origin=f"llama.cpp's architecture {self.name}")
        except TinyslmError as error:
            return error.problem
        for name in ModelConfig.model_fields:
            ours, theirs = _effective(config, name), _effective(read, name)
            if name not in NO_MATHEMATICS and ours != theirs:
                if name == "rope_scaling":  # the kind says enough
                    ours, theirs = ours[0], theirs[0]
                return f"llama.cpp's architecture {self.name} cannot have {name} = {ours}, only {theirs}."
        return ""

    def _scaling_tensors(self, config: ModelConfig) -> dict[str, Tensor]:
        known = {"llama3": self.divisors, "longrope": self.longrope}
        return scaling_tensors(config) if known.get(config.rope_scaling.kind, False) else {}

    def _has(self, ending: str, tensors: Collection[str]) -> bool:
        """Whether a `Decoder` tensor with this ending is made of one of the `tensors` of the first block."""
        first = names.expanded(self.parts, 1)
        return any(part.outside in tensors for part in first if any(name.endswith(ending) for name in part.inside))

    def _one(self, values: Mapping[str, Any], key: str) -> Any:
        value = values.get(key)
        if value is None:
            raise TinyslmError(
                f"The file does not say {self.name}.{key}.",
                "It is damaged or incomplete: get it again from its source.",
            )
        if not isinstance(value, bool | int | float | str):
            raise TinyslmError(
                f"The file gives {self.name}.{key} block by block, which is not supported.", "Import another model."
            )
        return value

    def _rotary_settings(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor], head_dim: int) -> Settings:
        theta = values.get("rope.freq_base", 10_000.0)
        scaling = {key.removeprefix("rope.scaling."): values[key] for key in values if key.startswith("rope.scaling.")}
        if self.longrope and all(name in tensors for name in LONGROPE_TENSORS.values()):
            stretched = longrope_settings(scaling, tensors)
        else:
            stretched = scaling_settings(scaling, tensors.get(ROPE_DIVISORS) if self.divisors else None, theta)
        settings: Settings = {"rope_theta": theta, "rope_scaling": stretched}
        settings["rotary_share"] = values.get("rope.dimension_count", head_dim) / max(1, head_dim)
        return settings


def _written(value: Any) -> Any:
    """A float that went through fp32 as it was written: 1e-06, not 9.999999974752427e-07."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _effective(config: ModelConfig, name: str) -> Any:
    """What a setting comes to, as it compares after a way through fp32."""
    value = getattr(config, name)
    if name == "attention_scale":
        value = config.query_scale
    elif name == "local_rope_theta":
        value = value if config.window_layers else 0.0
    elif name == "rotary_share":
        value = config.rotary_dim
    elif name == "rope_scaling":
        return comparable(config)
    elif name == "feed_forward":
        # llama.cpp's only GELU is the tanh form, read from a table in half precision, which is off by as much as the
        # two forms differ (5e-4): neither is exact, and the check after the export measures what that does.
        value = {"gelu": "gelu_tanh"}.get(value, value)
    return float(f"{value:.5g}") if isinstance(value, float) else value
