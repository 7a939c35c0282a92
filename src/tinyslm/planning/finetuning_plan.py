"""The plan of a fine-tuning run: rules that derive settings from the data, the machine and the time.

Sources of the rules:

- Epochs: up to four passes over the same data are worth nearly as much as new data; later ones soon are not
  (Muennighoff et al., 2023, arXiv 2305.16264). If there is time for more, the run ends early.
- Rank: adapters learn as well as all weights if their capacity exceeds the information in the data (Schulman et al.,
  "LoRA Without Regret", 2025); a parameter holds about two bits (Allen-Zhu & Li, 2024, arXiv 2404.05405).
- Learning rate: that of adapters is about ten times that of all weights, and independent of the rank if the update is
  scaled by alpha / rank (Schulman et al.). The method sets it.
- Batch: adapters learn worse from large batches (Schulman et al.), and few updates learn little: a short run has
  smaller batches, for at least `FEWEST_UPDATES`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinyslm.core.quantities import count, counted, duration, size
from tinyslm.model.config import ModelConfig
from tinyslm.training.config import RunConfig
from tinyslm.training.deadline import SAMPLES, VALIDATIONS
from tinyslm.training.finetuning_memory import adapter_width

MOST_EPOCHS = 4.0
FEWEST_UPDATES = 100
SMALLEST_BATCH = 512
"""Minimum tokens per update; with fewer, the optimizer's step takes too much of the time."""
USUAL_RANK, LARGEST_RANK = 16, 128
BITS_PER_PARAMETER, BITS_PER_TOKEN = 2.0, 2.0
"""The capacity of a parameter, and the information in a learned token (a loss of 1.4 nats), in bits."""

VALIDATING_SHARE, SAMPLING_SHARE = 0.05, 0.03
"""Shares of a run's time for all validations, and for all samples during the run."""
MEASURING_SHARE, ANSWERING_SHARE = 0.08, 0.06
"""Shares of a run's time for measuring losses, and for answering questions, before the run; the same again after it."""
FEWEST_VALIDATED, FEWEST_SCORED = 512, 1_024
WEIGHTS_SECONDS = 0.2
"""Time to save the best weights after a validation: adapters are small."""
REPORT_SECONDS = 3.0


@dataclass(frozen=True)
class Measured:
    """Seconds that this machine takes for the parts of a run.

    spent: from the beginning of the preparation to the first update. update: one update of `tokens` tokens. validation,
    sample: each of those during the run. ending: everything after the last update.
    """

    spent: float
    update: float
    tokens: int
    validation: float
    sample: float
    ending: float


@dataclass(frozen=True)
class FinetuningPlan:
    """The settings of a run, its time and its memory. rows: per epoch, 0 if there are no epochs. free: bytes of memory.

    why: the reason for not using all of the time, or "".
    """

    config: RunConfig
    measured: Measured
    rows: int
    steps: int
    seconds: float
    memory_bytes: int
    free: int
    why: str = ""

    @property
    def epochs(self) -> float:
        """Passes over the data."""
        return self.steps * self.config.train.batch / self.rows if self.rows else 0.0

    def as_result(self) -> dict[str, Any]:
        """The plan as JSON values."""
        train, lora = self.config.train, self.config.lora
        return {
            "stage": train.stage,
            "rank": lora.rank,
            "learning_rate": self.config.optimizer.lr,
            "batch": train.batch,
            "micro_batch": train.micro_batch or train.batch,
            "row_tokens": self.config.row_tokens,
            "rows_of_an_epoch": self.rows,
            "epochs": round(self.epochs, 3),
            "steps": self.steps,
            "tokens": self.steps * train.batch * self.config.row_tokens,
            "seconds": round(self.seconds, 1),
            "seconds_before": round(self.measured.spent, 1),
            "seconds_after": round(self.measured.ending, 1),
            "seconds_of_an_update": round(self.measured.update, 3),
            "memory_bytes": self.memory_bytes,
            "free_bytes": self.free,
            "why": self.why,
        }

    def lines(self) -> list[tuple[str, str]]:
        """The plan in words: (name, value)."""
        train, plan = self.config.train, self.as_result()
        what = f"adapters of rank {plan['rank']}" if plan["rank"] else "all weights"
        micro = f", {plan['micro_batch']} at once" if plan["micro_batch"] < train.batch else ""
        again = ", activations computed again" if train.checkpoint_activations else ""
        times = f"{self.epochs:.2g}"
        epochs = f", {times} epoch{'' if times == '1' else 's'} of {counted(self.rows, 'row')}" if self.rows else ""
        why = f" ({self.why})" if self.why else ""
        return [
            ("trains", f"{what} of {count(self.config.model.parameters)} parameters, by {train.stage}"),
            ("learning rate", f"{plan['learning_rate']:g}"),
            ("update", f"{counted(train.batch, 'row')} of up to {self.config.row_tokens} tokens{micro}{again}"),
            ("length", f"{counted(self.steps, 'update')}{epochs}{why}"),
            (
                "time",
                f"{duration(self.seconds)} in all: {duration(self.measured.spent)} before the first update, "
                f"{duration(self.measured.ending)} after the last",
            ),
            ("memory", f"{size(self.memory_bytes)} at most; {size(self.free)} are free"),
        ]


def adapter_rank(learned_tokens: int, model: ModelConfig) -> int:
    """The rank whose adapters can hold the information in the learned tokens: a power of two from 16 to 128."""
    rank = USUAL_RANK
    while rank < LARGEST_RANK and capacity(rank, model) < BITS_PER_TOKEN * learned_tokens:
        rank *= 2
    return rank


def capacity(rank: int, model: ModelConfig) -> float:
    """The capacity of adapters of a rank on all linear layers of the blocks, in bits."""
    return BITS_PER_PARAMETER * rank * adapter_width(model)


def batch_rows(usual: int, row_tokens: int, affordable_tokens: float) -> int:
    """Rows per update, at most `usual`; fewer if the run would otherwise have too few updates.

    affordable_tokens: tokens that the run has time for.
    """
    fitting = int(affordable_tokens / FEWEST_UPDATES / row_tokens)
    least = min(usual, max(1, SMALLEST_BATCH // row_tokens))
    return max(least, min(usual, fitting))


def micro_batch_of(batch: int, most: int) -> int:
    """The largest micro-batch of at most `most` rows that divides the batch."""
    return max(rows for rows in range(1, max(1, min(batch, most)) + 1) if batch % rows == 0)


def looked_at(seconds: float, share: float, per_token: float, *, fewest: int, most: int) -> int:
    """The number of held-out tokens to validate or score on in a share of a run's time, at `per_token` seconds each."""
    return max(fewest, min(most, int(share * seconds / per_token)))


def samples_on_the_way(seconds: float, sample: float) -> int:
    """The number of samples, `sample` seconds each, that a run of `seconds` has time for."""
    return max(1, min(SAMPLES, int(SAMPLING_SHARE * seconds / sample)))


def run_seconds(measured: Measured, steps: int, samples: int) -> float:
    """The duration of a whole run with this many updates, in seconds."""
    others = min(VALIDATIONS, steps) * (measured.validation + WEIGHTS_SECONDS) + samples * measured.sample
    return measured.spent + steps * measured.update + others + measured.ending


def fitting_updates(measured: Measured, seconds: float, samples: int) -> int:
    """The number of updates that fit into the time, at least one."""
    left = seconds - run_seconds(measured, 0, samples) - VALIDATIONS * (measured.validation + WEIGHTS_SECONDS)
    return max(1, int(left / measured.update))


def length(steps: int, rows: int, batch: int) -> tuple[int, str]:
    """The number of updates, at most `steps`, which fit into the time; and the reason if it is lower, or ""."""
    most = math.ceil(MOST_EPOCHS * rows / batch) if rows else 0
    if most and steps > most:
        return most, f"more than {MOST_EPOCHS:g} epochs mostly repeat; --epochs asks for another number"
    return steps, ""


def open_settings(given: Mapping[str, Any], section: str, *names: str) -> bool:
    """Whether the caller gave none of these settings."""
    return set(names).isdisjoint(given.get(section, {}))
