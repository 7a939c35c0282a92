"""Llama (Touvron et al., 2023): RMSNorm, rotary positions, SwiGLU, grouped-query attention. TinyLlama, SmolLM2."""

from tinyslm.model.family import Family

LLAMA = Family(
    name="llama",
    model_type="llama",
    architecture="LlamaForCausalLM",
    fixed={"norm": "rms", "feed_forward": "swiglu", "positions": "rope", "qk_norm": False},
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
    absent={"norm_eps": 1e-6, "tied": False, "rope_theta": 10_000.0},
    constants={"hidden_act": ("silu", "swish")},
    repeated={"activation": ("swiglu", "silu", "swish"), "is_llama_config": (True,)},
    switches={"attention_bias": ("attention_bias", "output_bias"), "mlp_bias": ("ffn_bias",)},
    ignored=("rotary_emb.inv_freq",),
)
