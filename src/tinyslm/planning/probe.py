"""Measure the difficulty of a text: train a tiny model on the bytes of a sample for a second or two, and score it on
held-out bytes. `law.py` extrapolates to larger models and more text.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyslm.evaluation.loss import mean_loss
from tinyslm.hardware.device import pick_dtype
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.training.config import OptimizerConfig, ScheduleConfig
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.schedule import lr_scale
from tinyslm.training.stage import Batch
from tinyslm.training.stages.pretrain import next_token_loss

MODEL = ModelConfig(vocab_size=256, dim=64, depth=2, context=128, tied=True)
BATCH, STEPS = 16, 120
TOKENS = STEPS * BATCH * MODEL.context
OPTIMIZER = OptimizerConfig(muon_lr=0.027, muon_momentum=0.8, lr=0.025)
SCHEDULE = ScheduleConfig(decay=0.9)
"""Fixed, independent of the rules for plans: the law was fitted to scores of the probe with these settings."""
ASKED_BYTES = 64_000


def probe(training: Sequence[bytes], held_out: Sequence[bytes]) -> float:
    """Train on the bytes of some documents, and return the bits per byte of evenly spread windows of others.

    Runs on the CPU with a fixed seed, and preserves the state of random number generators.
    """
    device = torch.device("cpu")
    dtype = pick_dtype(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Decoder(MODEL)
        optimizers = Optimizers(model, OPTIMIZER)
        settings = StepSettings(
            steps=STEPS,
            micro_batch=BATCH,
            clip=1.0,
            dtype=dtype,
            lr_scale=lambda step: lr_scale((step + 0.5) / STEPS, SCHEDULE),
        )
        windows = _windows(_joined(training))
        batches = itertools.cycle(map(Batch.of_windows, windows[torch.randperm(len(windows))].split(BATCH)))
        for _ in train_steps(model, next_token_loss, lambda: next(batches), optimizers, settings):
            pass
    windows = _windows(_joined(held_out))
    windows = windows[:: -(-len(windows) * MODEL.context // ASKED_BYTES)]
    return mean_loss(model, windows, dtype) / math.log(2)


def _joined(documents: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"\n".join(documents), np.uint8)


def _windows(text: NDArray[np.uint8]) -> Tensor:
    """Windows `[n, context + 1]` that overlap by one; a text shorter than a window is repeated."""
    length = MODEL.context
    text = np.resize(text, max(len(text), length + 1))
    count = (len(text) - 1) // length
    starts = length * np.arange(count)[:, None] + np.arange(length + 1)[None]
    return torch.from_numpy(text[starts].astype(np.int64))
