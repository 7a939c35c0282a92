"""Llama (Touvron et al., 2023): RMSNorm, rotary positions, SwiGLU, grouped-query attention, no biases."""

from tinyslm.model.family import Family

LLAMA = Family(
    name="llama",
    model_type="llama",
    architecture="LlamaForCausalLM",
    fixed={
        "norm": "rms",
        "feed_forward": "swiglu",
        "positions": "rope",
        "qk_norm": False,
        "attention_bias": False,
        "output_bias": False,
        "ffn_bias": False,
    },
    defaults={"tied": False},
    keys={
        "vocab_size": "vocab_size",
        "dim": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "head_dim": "head_dim",
        "ffn_dim": "intermediate_size",
        "context": "max_position_embeddings",
        "norm_eps": "rms_norm_eps",
        "init_std": "initializer_range",
        "tied": "tie_word_embeddings",
    },
    constants={"hidden_act": ("silu", "swish"), "attention_bias": (False,), "mlp_bias": (False,)},
    ignored=("rotary_emb.inv_freq",),
)
