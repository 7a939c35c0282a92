"""What is looked at while a run goes on: the loss on a little validation text, and a sample of text.

Neither draws from the random generators of the training, so a run does not depend on when it was looked at.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from tinyslm.data.shards import Shards
from tinyslm.evaluation.loss import mean_loss
from tinyslm.inference.engine import Engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.decoder import Decoder
from tinyslm.training.config import RunConfig
from tinyslm.training.validation import even_windows

SAMPLE_TOKENS = 64
QUICK_TOKENS = 32_768
"""Validation tokens that are looked at where the settings do not say."""


def quick_windows(shards: Shards, config: RunConfig) -> Tensor:
    """The fixed set of validation windows `[n, context + 1]`, spread evenly."""
    return even_windows(shards.split("valid"), config.model.context, config.train.validation_tokens or QUICK_TOKENS)


def quick_loss(model: Decoder, shards: Shards, config: RunConfig, device: torch.device, dtype: torch.dtype) -> float:
    """Mean loss on these windows."""
    with uncompiled():
        return mean_loss(model, quick_windows(shards, config).to(device), dtype)


def sample_text(model: Decoder, shards: Shards, config: RunConfig) -> str:
    """A short text from the model as it is now; the same for equal weights."""
    settings = SamplingSettings(max_tokens=SAMPLE_TOKENS, seed=config.train.seed)
    with uncompiled():
        return Engine(model, shards.tokenizer).complete("", settings)[0].text


def uncompiled() -> AbstractContextManager[None]:
    """Run a compiled model as it is written: only training steps, which all have one shape, are worth compiling.

    Other shapes would make the compiler give up on the model after a while, and a resumed run would then compute its
    steps in another way than the run that was not interrupted.
    """
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
