"""The one training loop: a generator that yields a report after every update.

Callers log, validate and save between two reports; there are no callbacks. Whatever a stage's loss has as its weight,
the update follows the mean over the *whole* batch: micro-batches and processes add up their summed losses, and the
gradient is divided once by the total weight.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.model.decoder import Decoder
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.sharding import own_rows, total_norm
from tinyslm.training.stage import Batch, Loss
from tinyslm.training.world import World

STRIKES = 3
"""This many updates in a row that are not finite stop the run."""


@dataclass(frozen=True)
class StepReport:
    """What one update did.

    step: updates tried so far, this one included. loss: mean over the batch before the update. weight: what the mean
    is over (for pretraining: predicted tokens). tokens: read in the batch. skipped: why the weights were left alone,
    or "".
    """

    step: int
    loss: float
    weight: float
    tokens: int
    gradient_norm: float
    lr_scale: float
    skipped: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class StepSettings:
    """How each update is made.

    steps: updates in the whole run. micro_batch: sequences computed at once. clip: largest norm of the gradient, or 0.
    lr_scale: the share of the peak learning rates for each update, counted from 0.
    """

    steps: int
    micro_batch: int
    clip: float
    dtype: torch.dtype
    lr_scale: Callable[[int], float]


def train_steps(
    model: Decoder,
    loss: Loss,
    next_batch: Callable[[], Batch],
    optimizers: Optimizers,
    settings: StepSettings,
    first_step: int = 0,
    world: World | None = None,
) -> Iterator[StepReport]:
    """Train from `first_step` to `settings.steps`, one report for each update.

    loss, next_batch: those of a stage. An update whose loss or gradient is not finite leaves the weights alone and says
    so in its report; three in a row raise `TinyslmError`.
    """
    world = world or World()
    strikes = 0
    for step in range(first_step, settings.steps):
        model.train()
        mean, weight, tokens, metrics = accumulate(model, loss, next_batch(), settings, world)
        norm = scale_and_clip(model, weight, settings.clip, world)
        scale = settings.lr_scale(step)
        skipped = _what_is_wrong(mean, norm)
        if skipped:
            optimizers.drop_gradients()
            strikes += 1
        else:
            optimizers.step(scale)
            strikes = 0
        yield StepReport(step + 1, mean, weight, tokens, norm, scale, skipped, metrics)
        if strikes == STRIKES:
            raise TinyslmError(
                f"Training stopped at step {step + 1}: {skipped}, {STRIKES} steps in a row.",
                "Start a new run (another --out) with lower learning rates (--optimizer.lr, --optimizer.muon_lr) or in "
                "fp32 (--train.dtype fp32). These steps did not change the weights.",
            )


def accumulate(
    model: Decoder, loss: Loss, batch: Batch, settings: StepSettings, world: World | None = None
) -> tuple[float, float, int, dict[str, float]]:
    """Add up the gradients of a batch's summed loss, over its micro-batches and all processes.

    Returns the mean loss, its weight, the tokens read, and the metrics: those of the loss as means by weight, and those
    of the batch.
    """
    world = world or World()
    loss_sum, weight, sums = 0.0, 0.0, dict[str, float]()
    device = batch.inputs.device.type
    for part in batch.split(settings.micro_batch):
        with torch.autocast(device, settings.dtype, enabled=settings.dtype != torch.float32):
            part_sum, part_weight, metrics = loss(model, part)
        part_sum.backward()
        loss_sum += part_sum.item()
        weight += part_weight
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + (value * part_weight if part_weight else 0.0)
    world.sum_gradients(model)
    values = [loss_sum, weight, batch.inputs.numel(), *sums.values()]
    loss_sum, weight, tokens, *totals = world.total(values)
    means = {name: total / weight for name, total in zip(sums, totals, strict=True)}
    return loss_sum / weight, weight, int(tokens), means | dict(batch.metrics)


@torch.no_grad()
def scale_and_clip(model: Decoder, weight: float, clip: float, world: World | None = None) -> float:
    """Divide the summed gradients by `weight` and limit their common norm to `clip`; returns the norm before."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = total_norm(gradients, world or World()) / weight
    limit = min(1.0, clip / norm) if clip and norm > 0 and math.isfinite(norm) else 1.0
    torch._foreach_mul_([own_rows(gradient) for gradient in gradients], limit / weight)
    return norm


def _what_is_wrong(loss: float, norm: float) -> str:
    if not math.isfinite(loss):
        return "the loss is not finite"
    return "" if math.isfinite(norm) else "the gradient is not finite"
