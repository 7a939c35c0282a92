"""GPT-NeoX (Black et al., 2022), the architecture of Pythia: a quarter of each head turned, side by side, biases."""

from tinyslm.model.family import Family
from tinyslm.model.renaming import Rule, same_layer_rules

GPT_NEOX = Family(
    name="gpt_neox",
    model_type="gpt_neox",
    architecture="GPTNeoXForCausalLM",
    fixed={"norm": "layer", "positions": "rope", "qk_norm": False, "ffn_bias": True},
    defaults={
        "feed_forward": "gelu",
        "norm_eps": 1e-5,
        "tied": False,
        "rotary_share": 0.25,
        "residual": "parallel",
        "attention_bias": True,
        "output_bias": True,
    },
    keys={
        "vocab_size": "vocab_size",
        "dim": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "ffn_dim": "intermediate_size",
        "context": "max_position_embeddings",
        "norm_eps": "layer_norm_eps",
        "init_std": "initializer_range",
        "tied": "tie_word_embeddings",
    },
    absent={
        "norm_eps": 1e-5,
        "tied": False,
        "rope_theta": 10_000.0,
        "rotary_share": 0.25,
        "feed_forward": "gelu",
        "residual": "parallel",
        "attention_bias": True,
        "output_bias": True,
    },
    constants={},
    choices={
        "feed_forward": (
            "hidden_act",
            {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh"},
        ),
        "residual": ("use_parallel_residual", {True: "parallel", False: "serial"}),
    },
    switches={"attention_bias": ("attention_bias", "output_bias")},
    rope_aliases={"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    rules=(
        Rule("embed_out.weight", ["lm_head.weight"]),
        Rule("gpt_neox.embed_in.weight", ["model.embed_tokens.weight"]),
        *(
            Rule(
                f"gpt_neox.layers.{{}}.attention.query_key_value.{kind}",
                [f"model.layers.{{}}.self_attn.{part}_proj.{kind}" for part in "qkv"],
                by_head=True,
            )
            for kind in ("weight", "bias")
        ),
        *same_layer_rules(
            {
                "gpt_neox.final_layer_norm": "model.norm",
                "gpt_neox.layers.{}.input_layernorm": "model.layers.{}.input_layernorm",
                "gpt_neox.layers.{}.post_attention_layernorm": "model.layers.{}.post_attention_layernorm",
                "gpt_neox.layers.{}.attention.dense": "model.layers.{}.self_attn.o_proj",
                "gpt_neox.layers.{}.mlp.dense_h_to_4h": "model.layers.{}.mlp.up_proj",
                "gpt_neox.layers.{}.mlp.dense_4h_to_h": "model.layers.{}.mlp.down_proj",
            }
        ),
    ),
    ignored=("attention.bias", "attention.masked_bias", "rotary_emb.inv_freq"),
)
