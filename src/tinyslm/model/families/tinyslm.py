"""The article's model, corrected. Its mathematics is GPT-2's, so outside it is a GPT-2 folder that every tool loads."""

from dataclasses import replace

from tinyslm.model.families.gpt2 import GPT2

TINYSLM = replace(
    GPT2,
    name="tinyslm",
    defaults={
        "dim": 256,
        "depth": 8,
        "heads": 4,
        "context": 512,
        "feed_forward": "gelu",
        "norm_eps": 1e-5,
        "tied": False,
    },
)
