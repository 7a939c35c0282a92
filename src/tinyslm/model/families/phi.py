"""Phi-1.5 and Phi-2 (Li et al., 2023): attention and feed-forward side by side, half of each head turned, biases."""

from tinyslm.model.family import Family
from tinyslm.model.renaming import same_layer_rules

PHI = Family(
    name="phi",
    model_type="phi",
    architecture="PhiForCausalLM",
    fixed={
        "norm": "layer",
        "positions": "rope",
        "qk_norm": False,
        "residual": "parallel_one_norm",
        "attention_bias": True,
        "output_bias": True,
        "ffn_bias": True,
        "head_bias": True,
    },
    defaults={"feed_forward": "gelu_tanh", "norm_eps": 1e-5, "tied": False, "rotary_share": 0.5},
    keys={
        "vocab_size": "vocab_size",
        "dim": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "ffn_dim": "intermediate_size",
        "context": "max_position_embeddings",
        "norm_eps": "layer_norm_eps",
        "init_std": "initializer_range",
        "tied": "tie_word_embeddings",
    },
    absent={
        "norm_eps": 1e-5, "tied": False, "rope_theta": 10_000.0, "rotary_share": 0.5, "feed_forward": "gelu_tanh",
    },
    constants={"qk_layernorm": (False,)},
    choices={
        "feed_forward": ("hidden_act", {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"})
    },
    rules=same_layer_rules(
        {
            "model.final_layernorm": "model.norm",
            "model.layers.{}.self_attn.dense": "model.layers.{}.self_attn.o_proj",
            "model.layers.{}.mlp.fc1": "model.layers.{}.mlp.up_proj",
            "model.layers.{}.mlp.fc2": "model.layers.{}.mlp.down_proj",
        }
    ),
    ignored=("rotary_emb.inv_freq",),
)  # fmt: skip
