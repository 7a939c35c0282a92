"""GPT-Neo (Black et al., 2021), the architecture of the TinyStories models: every second block sees only a window.

Attention scores are not scaled: the queries' weights carry the scale.
"""

from collections.abc import Mapping
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any

from tinyslm.model.family import Family, Part
from tinyslm.model.renaming import Rule, same_layer_rules

if TYPE_CHECKING:
    from tinyslm.model.config import ModelConfig

LOCAL, GLOBAL = "local", "global"
WINDOW = 256


def _kinds(hf: Mapping[str, Any]) -> list[str]:
    """The kind of each block's attention: `attention_layers`, or else `attention_types` repeated as it says."""
    depth, kinds = hf["num_layers"], hf.get("attention_layers")
    if kinds is None:
        types = hf.get("attention_types") or [[[GLOBAL, LOCAL], 12]]
        repeated = (repeat(pattern, min(count, depth + 1)) for pattern, count in types)
        kinds = list(islice(chain.from_iterable(chain.from_iterable(repeated)), depth + 1))
    if len(kinds) != depth or set(kinds) - {GLOBAL, LOCAL}:
        raise ValueError(f'attention_layers or attention_types do not name {depth} blocks as "{GLOBAL}" or "{LOCAL}"')
    return kinds


def _read(hf: Mapping[str, Any]) -> dict[str, Any]:
    layers = tuple(layer for layer, kind in enumerate(_kinds(hf)) if kind == LOCAL)
    return {"window": hf.get("window_size", WINDOW) if layers else 0, "window_layers": layers}


def _write(config: "ModelConfig") -> dict[str, Any]:
    kinds = [LOCAL if layer in config.window_layers else GLOBAL for layer in range(config.depth)]
    return {"attention_types": [[kinds, 1]], "attention_layers": kinds, "window_size": config.window or WINDOW}


GPT_NEO = Family(
    name="gpt_neo",
    model_type="gpt_neo",
    architecture="GPTNeoForCausalLM",
    fixed={
        "norm": "layer",
        "positions": "learned",
        "qk_norm": False,
        "output_bias": True,
        "ffn_bias": True,
        "attention_scale": 1.0,
    },
    defaults={"feed_forward": "gelu_tanh", "norm_eps": 1e-5, "tied": True},
    keys={
        "vocab_size": "vocab_size",
        "dim": "hidden_size",
        "depth": "num_layers",
        "heads": "num_heads",
        "ffn_dim": "intermediate_size",
        "context": "max_position_embeddings",
        "norm_eps": "layer_norm_epsilon",
        "init_std": "initializer_range",
        "tied": "tie_word_embeddings",
    },
    aliases={"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"},
    absent={"norm_eps": 1e-5, "tied": True, "feed_forward": "gelu_tanh", "ffn_dim": 0},  # 0: 4 times dim
    constants={},
    choices={
        "feed_forward": (
            "activation_function",
            {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"},
        )
    },
    parts=(Part(fields=("attention_types", "attention_layers", "window_size"), read=_read, write=_write),),
    habits=lambda dim, depth: {
        "window": WINDOW if depth > 1 else 0,
        "window_layers": tuple(range(1, depth, 2)),
    },
    rules=(
        Rule("transformer.wte.weight", ["model.embed_tokens.weight"]),
        Rule("transformer.wpe.weight", ["model.embed_positions.weight"]),
        *(
            Rule(
                f"transformer.h.{{}}.attn.attention.{part}_proj.weight",
                [f"model.layers.{{}}.self_attn.{part}_proj.weight"],
            )
            for part in "qkv"
        ),
        *same_layer_rules(
            {
                "transformer.ln_f": "model.norm",
                "transformer.h.{}.ln_1": "model.layers.{}.input_layernorm",
                "transformer.h.{}.ln_2": "model.layers.{}.post_attention_layernorm",
                "transformer.h.{}.attn.attention.out_proj": "model.layers.{}.self_attn.o_proj",
                "transformer.h.{}.mlp.c_fc": "model.layers.{}.mlp.up_proj",
                "transformer.h.{}.mlp.c_proj": "model.layers.{}.mlp.down_proj",
            }
        ),
    ),
    ignored=(".attn.attention.bias", ".attn.attention.masked_bias"),
    prefix="transformer.",
)
