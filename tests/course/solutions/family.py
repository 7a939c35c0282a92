"""Solution: four tables differ from Llama's."""

CALL = 'name="starcoder2", model_type="starcoder2", architecture="Starcoder2ForCausalLM"'
BEGIN = f"\nSTARCODER2 = replace(LLAMA, {CALL})\n"
BIASES = 'BIASES = ("attention_bias", "output_bias", "ffn_bias")\n'
NEW = (
    "from tinyslm.model.renaming import same_layer_rules\n\n"
    + BIASES
    + """STARCODER2 = replace(
    LLAMA,
    name="starcoder2",
    model_type="starcoder2",
    architecture="Starcoder2ForCausalLM",
    fixed={"norm": "layer", "feed_forward": "gelu_tanh", "positions": "rope", "qk_norm": False},
    defaults={"tied": True, "norm_eps": 1e-5, **dict.fromkeys(BIASES, True)},
    keys={**{ours: theirs for ours, theirs in LLAMA.keys.items() if ours != "head_dim"}, "norm_eps": "norm_epsilon"},
    absent={"norm_eps": 1e-5, "tied": True, "rope_theta": 10_000.0, "kv_heads": 2, **dict.fromkeys(BIASES, True)},
    constants={"hidden_act": ("gelu_pytorch_tanh",)},
    repeated={},
    switches={"use_bias": BIASES},
    rules=same_layer_rules(
        {
            "model.layers.{}.mlp.c_fc": "model.layers.{}.mlp.up_proj",
            "model.layers.{}.mlp.c_proj": "model.layers.{}.mlp.down_proj",
        }
    ),
)
"""
)
DEFAULTS = '    defaults={"tied": True, "norm_eps": 1e-5, **dict.fromkeys(BIASES, True)},\n'

EDITS = [(BEGIN, NEW)]
WRONG = [
    ("names of tensors", [("mlp.c_fc", "mlp.fc")], 4, "have no model.layers.0.mlp.c_fc"),
    ("GELU that is exact", [('"feed_forward": "gelu_tanh"', '"feed_forward": "gelu"')], 1, "feed_forward = 'gelu'"),
    ("new models as Llama's", [(DEFAULTS, "")], 6, "attention_bias"),
    ("the switch of Llama", [('"use_bias"', '"attention_bias"')], 1, "use_bias"),
]
