"""Rotary positions in a `config.json`: `rope_parameters` as transformers 5 writes it, or the older separate fields."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError

if TYPE_CHECKING:
    from tinyslm.model.config import ModelConfig

ROPE_FIELDS = frozenset(
    {"rope_theta", "rope_parameters", "rope_scaling", "partial_rotary_factor", "rope_local_base_freq"}
)
"""Fields that every family with rotary positions may have."""

KINDS: Mapping[str, str] = {
    "default": "none", "linear": "linear", "dynamic": "dynamic", "llama3": "llama3", "yarn": "yarn",
    "longrope": "longrope",
}  # fmt: skip
"""Hugging Face's `rope_type` -> our kind of scaling, in most families."""

_SCALING = {
    "factor": "factor",
    "original_context": "original_max_position_embeddings",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "attention_factor": "attention_factor",
    "mscale": "mscale",
    "mscale_all_dim": "mscale_all_dim",
    "truncate": "truncate",
    "short_factor": "short_factor",
    "long_factor": "long_factor",
}
"""Our setting -> Hugging Face's field, in the scaling of rotary positions."""

_USED = {
    "none": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "original_context", "low_freq_factor", "high_freq_factor"),
    "yarn": (
        "factor",
        "original_context",
        "beta_fast",
        "beta_slow",
        "attention_factor",
        "mscale",
        "mscale_all_dim",
        "truncate",
    ),
    "longrope": ("factor", "original_context", "short_factor", "long_factor", "attention_factor"),
}
"""The settings that each kind of scaling has."""

Refusal = Callable[[str, Any], TinyslmError]


def rope_to_hf(config: "ModelConfig", *, partial: bool, local: bool) -> dict[str, Any]:
    """The fields for both generations of readers: transformers 5 takes the last one, everything older the others.

    partial: the family may turn a part of each head. local: its windowed blocks have a base of their own.
    """
    scaling = config.rope_scaling
    kind = "default" if scaling.kind == "none" else scaling.kind
    values = {ours: getattr(scaling, ours) for ours in _USED[scaling.kind]}
    fields = {_SCALING[ours]: value for ours, value in values.items() if value or ours == "truncate"}
    share = {"partial_rotary_factor": config.rotary_share} if partial else {}
    parameters = {"rope_type": kind, "rope_theta": config.rope_theta, **fields, **share}
    older = {
        "rope_theta": config.rope_theta,
        "rope_scaling": {"rope_type": kind, **fields} if fields else None,
        **share,
    }
    if not local:
        return {**older, "rope_parameters": parameters}
    base = config.local_rope_theta or config.rope_theta
    windowed = {"rope_type": "default", "rope_theta": base}
    return {
        **older,
        "rope_local_base_freq": base,
        "rope_parameters": {"full_attention": parameters, "sliding_attention": windowed},
    }


def rope_from_hf(
    hf: Mapping[str, Any],
    settings: Mapping[str, Any],
    aliases: Mapping[str, str],
    refuse: Refusal,
    *,
    kinds: Mapping[str, str] = KINDS,
    original: int = 0,
) -> dict[str, Any]:
    """Our settings. settings: those known so far, with the family's defaults for absent fields.

    Contradicting fields are read as by transformers 5: `rope_scaling`, if present, replaces `rope_parameters` (in
    Gemma 3, only the entries that both have); these take precedence over the separate fields; and `aliases`, a family's
    own names of separate fields, replace the usual names. kinds: Hugging Face's `rope_type` -> our kind of scaling, for
    those that the family supports. original: see `Family.original_context`.
    """
    separate = {name: hf.get(aliases.get(name, name)) for name in ("rope_theta", "partial_rotary_factor")}
    scaling, parameters = hf.get("rope_scaling") or {}, hf.get("rope_parameters") or {}
    found: dict[str, Any] = {}
    if "local_rope_theta" in settings:
        if set(parameters) - {"full_attention", "sliding_attention"}:
            raise refuse("rope_parameters", parameters)
        found["local_rope_theta"] = _local_theta(hf, parameters.get("sliding_attention") or {}, settings, refuse)
        parameters = {**(parameters.get("full_attention") or {}), **scaling}
    else:
        parameters = scaling or parameters
    rope = {key: value for key, value in {**separate, **parameters}.items() if value is not None}
    found["rope_theta"] = float(rope.pop("rope_theta", settings.get("rope_theta", 10_000.0)))
    share = float(rope.pop("partial_rotary_factor", settings.get("rotary_share", 1.0)))
    if share != 1 and "rotary_share" not in settings:
        raise refuse("partial_rotary_factor", share)
    if "rotary_share" in settings:
        found["rotary_share"] = share
    if original:
        rope["original_max_position_embeddings"] = hf.get("original_max_position_embeddings", original)
    return found | {"rope_scaling": _scaling(rope, settings, hf, refuse, kinds)}


def _local_theta(
    hf: Mapping[str, Any], parameters: Mapping[str, Any], settings: Mapping[str, Any], refuse: Refusal
) -> float:
    """The base of windowed blocks, whose frequencies are never stretched."""
    if parameters.get("rope_type", "default") != "default" or set(parameters) - {"rope_type", "rope_theta"}:
        raise refuse("rope_parameters", dict(parameters))
    return float(parameters.get("rope_theta") or hf.get("rope_local_base_freq") or settings["local_rope_theta"])


def _scaling(
    rope: dict[str, Any],
    settings: Mapping[str, Any],
    hf: Mapping[str, Any],
    refuse: Refusal,
    kinds: Mapping[str, str],
) -> Any:
    from tinyslm.model.config import RopeScaling

    name = rope.get("rope_type", rope.get("type", "default"))
    rope = {key: value for key, value in rope.items() if key not in ("rope_type", "type")}
    kind = kinds.get(name)
    if kind is None:
        raise refuse("rope_scaling" if hf.get("rope_scaling") else "rope_parameters", {"rope_type": name, **rope})
    if kind in ("llama3", "yarn", "longrope"):
        original = hf.get("original_max_position_embeddings") or settings["context"]
        rope.setdefault("original_max_position_embeddings", original)
    if kind in ("yarn", "longrope") and "factor" not in rope:
        rope["factor"] = settings["context"] / rope["original_max_position_embeddings"]
    if kind == "longrope":
        rope["factor"] = max(1.0, rope["factor"])  # below 1, it has no effect
    known = {_SCALING[ours]: ours for ours in _USED[kind]}
    if kind == "none" or (kind == "dynamic" and rope.get("original_max_position_embeddings") == settings["context"]):
        rope.pop("original_max_position_embeddings", None)
        rope = {} if kind == "none" and rope.get("factor") == 1 else rope
    for key, value in rope.items():
        if key not in known:
            raise refuse(f"rope {key}", value)
    if kind == "none":
        return RopeScaling()
    needed = {"factor", "short_factor", "long_factor"} if kind == "longrope" else {"factor"}
    if needed - rope.keys():
        raise refuse("rope_scaling", {"rope_type": name, **rope})
    return RopeScaling.model_validate({"kind": kind, **{known[key]: value for key, value in rope.items()}})
