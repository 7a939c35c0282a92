"""GPT-2 (Radford et al., 2019): LayerNorm, learned positions, GELU, biases everywhere."""

from tinyslm.model.family import Family
from tinyslm.model.renaming import Rule

GPT2 = Family(
    name="gpt2",
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    fixed={
        "norm": "layer",
        "positions": "learned",
        "qk_norm": False,
        "attention_bias": True,
        "output_bias": True,
        "ffn_bias": True,
    },
    defaults={"feed_forward": "gelu_tanh", "norm_eps": 1e-5, "tied": True},
    keys={
        "vocab_size": "vocab_size",
        "dim": "n_embd",
        "depth": "n_layer",
        "heads": "n_head",
        "ffn_dim": "n_inner",
        "context": "n_positions",
        "norm_eps": "layer_norm_epsilon",
        "init_std": "initializer_range",
        "tied": "tie_word_embeddings",
    },
    aliases={
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    },
    absent={"norm_eps": 1e-5, "tied": True, "feed_forward": "gelu_tanh", "ffn_dim": 0},  # 0: 4 times dim
    constants={
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "reorder_and_upcast_attn": (False, True),  # the same mathematics in another precision
        "add_cross_attention": (False,),
    },
    choices={
        "feed_forward": (
            "activation_function",
            {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"},
        )
    },
    rules=(
        Rule("transformer.wte.weight", ["model.embed_tokens.weight"]),
        Rule("transformer.wpe.weight", ["model.embed_positions.weight"]),
        Rule("transformer.ln_f.weight", ["model.norm.weight"]),
        Rule("transformer.ln_f.bias", ["model.norm.bias"]),
        Rule("transformer.h.{}.ln_1.weight", ["model.layers.{}.input_layernorm.weight"]),
        Rule("transformer.h.{}.ln_1.bias", ["model.layers.{}.input_layernorm.bias"]),
        Rule("transformer.h.{}.ln_2.weight", ["model.layers.{}.post_attention_layernorm.weight"]),
        Rule("transformer.h.{}.ln_2.bias", ["model.layers.{}.post_attention_layernorm.bias"]),
        Rule(
            "transformer.h.{}.attn.c_attn.weight",
            [f"model.layers.{{}}.self_attn.{part}_proj.weight" for part in "qkv"],
            transposed=True,
        ),
        Rule("transformer.h.{}.attn.c_attn.bias", [f"model.layers.{{}}.self_attn.{part}_proj.bias" for part in "qkv"]),
        Rule("transformer.h.{}.attn.c_proj.weight", ["model.layers.{}.self_attn.o_proj.weight"], transposed=True),
        Rule("transformer.h.{}.attn.c_proj.bias", ["model.layers.{}.self_attn.o_proj.bias"]),
        Rule("transformer.h.{}.mlp.c_fc.weight", ["model.layers.{}.mlp.up_proj.weight"], transposed=True),
        Rule("transformer.h.{}.mlp.c_fc.bias", ["model.layers.{}.mlp.up_proj.bias"]),
        Rule("transformer.h.{}.mlp.c_proj.weight", ["model.layers.{}.mlp.down_proj.weight"], transposed=True),
        Rule("transformer.h.{}.mlp.c_proj.bias", ["model.layers.{}.mlp.down_proj.bias"]),
    ),
    ignored=(".attn.bias", ".attn.masked_bias"),
    prefix="transformer.",
)
