"""Calibration text that the model writes itself (Williams et al., 2024, "Self-calibration")."""

import torch
from torch import Tensor

from tinyslm.inference.engine import Engine
from tinyslm.inference.request import Request
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.tokenizer import Tokenizer

WINDOWS, LENGTH = 16, 128
NEVER = -1e4
"""Added to the logits of end tokens, so that all windows have one length."""


def own_text(model: Decoder, tokenizer: Tokenizer, seed: int = 1) -> Tensor:
    """`WINDOWS` texts drawn from the model at temperature 1, ids [n, t], `LENGTH` tokens each if the context allows."""
    prompt = tokenizer.start_ids or (tokenizer.eos_id,)
    length = min(LENGTH, model.config.longest - len(prompt))
    request = Request(
        tuple(prompt),
        SamplingSettings(temperature=1.0, max_tokens=length, seed=seed),
        n=WINDOWS,
        bias=dict.fromkeys(tokenizer.stop_ids, NEVER),
    )
    engine = Engine(model, tokenizer)
    try:
        texts = engine.submit(request).whole()
    finally:
        engine.close()
    return torch.tensor([(*prompt, *text.ids) for text in texts])
