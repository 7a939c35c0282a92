"""OPT (Zhang et al., 2022): GPT-2's block with ReLU; the position table begins with two unused rows."""

from collections.abc import Mapping
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.model.family import Family, Part
from tinyslm.model.renaming import Rule, same_layer_rules


def _read(hf: Mapping[str, Any]) -> dict[str, Any]:
    width = hf.get("word_embed_proj_dim")
    if width is not None and width != hf["hidden_size"]:  # as in OPT-350M, which also has its norms elsewhere
        raise TinyslmError(
            f"This opt model's config.json sets word_embed_proj_dim = {width} with hidden_size = {hf['hidden_size']}, "
            "which tinyslm does not implement.",
            "Use a model whose embeddings are as wide as its blocks: all OPT models but OPT-350M.",
        )
    return {}


OPT = Family(
    name="opt",
    model_type="opt",
    architecture="OPTForCausalLM",
    fixed={"norm": "layer", "norm_eps": 1e-5, "positions": "learned", "qk_norm": False},
    defaults={
        "feed_forward": "relu",
        "tied": True,
        "attention_bias": True,
        "output_bias": True,
        "ffn_bias": True,
    },
    keys={
        "vocab_size": "vocab_size",
        "dim": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "ffn_dim": "ffn_dim",
        "context": "max_position_embeddings",
        "init_std": "init_std",
        "tied": "tie_word_embeddings",
    },
    absent={"tied": True, "feed_forward": "relu", "attention_bias": True, "output_bias": True, "ffn_bias": True},
    constants={
        "do_layer_norm_before": (True,),
        "layer_norm_elementwise_affine": (True,),
        "_remove_final_layer_norm": (False,),
    },
    choices={"feed_forward": ("activation_function", {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh"})},
    switches={"enable_bias": ("attention_bias", "output_bias", "ffn_bias")},
    parts=(
        Part(
            fields=("word_embed_proj_dim",),
            read=_read,
            write=lambda config: {"word_embed_proj_dim": config.dim},
        ),
    ),
    rules=(
        Rule("model.decoder.embed_tokens.weight", ["model.embed_tokens.weight"]),
        Rule("model.decoder.embed_positions.weight", ["model.embed_positions.weight"], unused_rows=2),
        *same_layer_rules(
            {
                "model.decoder.final_layer_norm": "model.norm",
                "model.decoder.layers.{}.self_attn_layer_norm": "model.layers.{}.input_layernorm",
                "model.decoder.layers.{}.final_layer_norm": "model.layers.{}.post_attention_layernorm",
                **{
                    f"model.decoder.layers.{{}}.self_attn.{part}_proj": f"model.layers.{{}}.self_attn.{part}_proj"
                    for part in "qkv"
                },
                "model.decoder.layers.{}.self_attn.out_proj": "model.layers.{}.self_attn.o_proj",
                "model.decoder.layers.{}.fc1": "model.layers.{}.mlp.up_proj",
                "model.decoder.layers.{}.fc2": "model.layers.{}.mlp.down_proj",
            }
        ),
    ),
    prefix="model.",
)
