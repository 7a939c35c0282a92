"""The stage dpo: learn from pairs of answers which one is preferred (Rafailov et al., 2023).

A model's log-ratio of an answer is its log-probability minus that of the reference, the model that the run starts from.
The loss depends on delta, the log-ratio of the chosen answer minus that of the rejected one. With adapters, the
reference is the model itself without them; if all weights are trained, it is a second, frozen model. Its
log-probabilities are computed for each batch: a run with a given time never pays for pairs that it does not reach, and
a resumed run computes the same values.

Shape legend: n learned tokens, s segments of a row, p pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tinyslm.core.registry import Registry
from tinyslm.data.examples import Example, Examples, RowLoader, open_examples, packed_rows
from tinyslm.data.preferences import KIND
from tinyslm.evaluation.intervals import mean_estimate
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import find_model, load_model
from tinyslm.model.lora import without_adapters
from tinyslm.model.loss import IGNORE, log_probs
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.stage import PER_EXAMPLE, Batch, Question
from tinyslm.training.stage_config import DpoConfig
from tinyslm.training.stages.sft import AT_ONCE, answer, batch_of, held_out_questions, spread
from tinyslm.training.world import World

REFERENCE = "reference"
"""The name in `Batch.extra` of the reference's log-probability of each segment, `[rows, s]`; 0 for missing segments."""


@dataclass(frozen=True)
class PairLoss:
    """A loss of one pair. of: (delta, beta) to the loss, each `[p]`. beta: the usual one.

    per_token: delta is the difference of the answers' mean log-ratios per token, not of their sums.
    """

    of: Callable[[Tensor, float], Tensor]
    beta: float
    per_token: bool


LOSSES: Registry[PairLoss] = Registry("loss of preferences")
LOSSES.add("sigmoid", PairLoss(lambda delta, beta: -F.logsigmoid(beta * delta), beta=0.1, per_token=False))
LOSSES.add("ipo", PairLoss(lambda delta, beta: (delta - 1 / (2 * beta)) ** 2, beta=0.1, per_token=True))
LOSSES.add("sigmoid_norm", PairLoss(lambda delta, beta: -F.logsigmoid(beta * delta), beta=5.0, per_token=True))


class Reference:
    """The log-probabilities of the model that a run starts from."""

    def __init__(self, model: Decoder | None, dtype: torch.dtype) -> None:
        """model: a frozen copy; None: the trained model without its adapters. dtype: that of the products."""
        self._model = model and model.eval().requires_grad_(False)
        self.dtype = dtype

    def batch(self, model: Decoder, batch: Batch, dtype: torch.dtype | None = None) -> Batch:
        """The batch, on the model's device, with the reference's log-probabilities in `extra`.

        Gradients stay enabled, although the reference has none: the model then uses the same kernels as in training,
        and both differ only by what was learned, not by rounding.
        """
        dtype = dtype or self.dtype
        batch = batch.to(model.device)
        assert batch.segments is not None, "pairs are packed"
        segments = int(batch.segments.max()) + 1
        training, together = model.training, max(1, AT_ONCE // batch.inputs.shape[1])
        try:
            with (
                without_adapters(model) if self._model is None else nullcontext(),
                torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32),
            ):
                reader = self._model or model.eval()
                sums = [segment_log_probs(reader, part, segments)[0] for part in batch.split(together)]
        finally:
            model.train(training)
        return replace(batch, extra={REFERENCE: torch.cat(sums).detach()})


class PairBatches:
    """Batches of packed pairs, with the reference's log-probabilities."""

    def __init__(self, loader: RowLoader, reference: Reference) -> None:
        self.loader, self.reference = loader, reference

    def next(self, model: Decoder) -> Batch:
        """See `Batches.next`."""
        return self.reference.batch(model, batch_of(self.loader.next()))

    def state(self) -> dict[str, Any]:
        """See `Batches.state`."""
        return self.loader.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Batches.restore`."""
        self.loader.restore(state)


class Dpo:
    """A `Stage` whose loss is one of `LOSSES`, per pair."""

    def __init__(
        self,
        held_out: Examples,
        tokenizer: Tokenizer,
        batches: PairBatches,
        context: int,
        settings: DpoConfig,
    ) -> None:
        self.tokenizer, self.batches, self.context, self.settings = tokenizer, batches, context, settings
        self._held_out = held_out
        self._loss = LOSSES[settings.loss]
        self._beta = settings.beta or self._loss.beta
        self._validated: dict[tuple[torch.dtype, int], list[Batch]] = {}

    @classmethod
    def open(cls, data: Path, config: RunConfig, world: World) -> Dpo:
        """Open the stage on a folder of preferences. Raises `TinyslmError` for another kind of folder."""
        train, held_out, tokenizer = open_examples(data, kind=KIND)
        loop, context, device = config.train, config.row_tokens, pick_device(config.train.device)
        frozen = None
        if not config.lora.rank:
            frozen = load_model(find_model(Path(loop.start_from)), device=device, dense=True)
        reference = Reference(frozen, pick_dtype(device, loop.dtype))
        loader = RowLoader(train, context=context, batch=loop.batch, seed=loop.seed, rows=world.share(loop.batch))
        return cls(held_out, tokenizer, PairBatches(loader, reference), context, config.dpo)

    @property
    def held_out_tokens(self) -> int:
        """See `Stage`."""
        return int(self._held_out.lengths.sum())

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, float, Mapping[str, float]]:
        """The weight is the number of pairs. The rewards are beta times the log-ratios that delta compares."""
        losses, rewards = self._losses(model, batch)
        margins = rewards[:, 0] - rewards[:, 1]
        metrics = {
            "rewards/chosen": rewards[:, 0].mean().item(),
            "rewards/rejected": rewards[:, 1].mean().item(),
            "rewards/margins": margins.mean().item(),
            "rewards/accuracies": _won(margins).mean().item(),
        }
        return losses.sum(), float(len(losses)), metrics

    def _losses(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of each pair `[p]`, and the rewards of its answers `[p, 2]`, which carry no gradient."""
        reference = batch.extra[REFERENCE]
        log_probs, counts = segment_log_probs(model, batch, reference.shape[1])
        pairs = counts.view(-1, 2)[:, 0] > 0
        ours, theirs, tokens = (one.view(-1, 2)[pairs] for one in (log_probs, reference, counts))
        ratios = ours - theirs
        if self._loss.per_token:
            ratios = ratios / tokens
        losses = self._loss.of(ratios[:, 0] - ratios[:, 1], self._beta)
        if self.settings.rpo_alpha:
            losses = losses - self.settings.rpo_alpha * ours[:, 0] / tokens[:, 0]
        return losses, self._beta * ratios.detach()

    @torch.no_grad()
    def validate(self, model: Decoder, dtype: torch.dtype, tokens: int) -> float:
        """The mean loss of held-out pairs, spread evenly over all of them."""
        return float(self._held_out_losses(model, dtype, tokens, lambda: None)[0].mean())

    def in_units(self, loss: float, *, held_out: bool) -> Mapping[str, float]:  # noqa: ARG002
        """A loss per pair has no other unit."""
        return {}

    def warnings(self, metrics: Mapping[str, float]) -> Sequence[str]:  # noqa: ARG002
        """There are none."""
        return ()

    def sample(self, model: Decoder, seed: int) -> str:
        """The model's answer to the first held-out prompt."""
        return answer(model, self.tokenizer, self._held_out[0], seed, self.batches.reference.dtype)

    def score(self, model: Decoder, tokens: int, check: Callable[[], None]) -> Mapping[str, Any]:
        """The loss of held-out pairs, and the share in which the chosen answer has the higher reward.

        Both with their 95 % intervals over pairs; equal rewards count as half.
        """
        with torch.no_grad():
            losses, rewards = self._held_out_losses(model, torch.float32, tokens, check)
        margins = torch.from_numpy(rewards[:, 0] - rewards[:, 1])
        loss, accuracy = mean_estimate(losses), mean_estimate(_won(margins).numpy())
        return {
            "loss": loss.value,
            "low": loss.low,
            "high": loss.high,
            "accuracy": accuracy.value,
            "accuracy_low": accuracy.low,
            "accuracy_high": accuracy.high,
            "margin": float(margins.mean()),
            "conversations": len(losses),
            PER_EXAMPLE: {"losses": losses.tolist(), "weights": [1.0] * len(losses), "unit": "loss per pair"},
        }

    def questions(self, count: int) -> list[Question]:
        """See `Asking`; the reference is the chosen answer."""
        return held_out_questions(self._held_out, self.tokenizer, count)

    def _held_out_losses(
        self, model: Decoder, dtype: torch.dtype, tokens: int, check: Callable[[], None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Losses and rewards of held-out pairs of about so many tokens; what the reference says of them is kept."""
        model.eval()
        batches = self._validated.setdefault((dtype, tokens), [])
        rows = [] if batches else self._held_out_rows(tokens)
        for part in rows:
            check()
            batches.append(self.batches.reference.batch(model, batch_of(part), dtype))
        found = []
        for batch in batches:
            check()
            with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
                found.append(self._losses(model, batch))
        losses, rewards = (torch.cat(one).double().cpu().numpy() for one in zip(*found, strict=True))
        return losses, rewards

    def _held_out_rows(self, tokens: int) -> list[Sequence[Sequence[Example]]]:
        """The rows of each forward pass over the held-out pairs."""
        numbers = spread(self._held_out.groups, tokens / max(1, self.held_out_tokens))
        packed = packed_rows(self._held_out.group_inputs[numbers], self.context)
        rows = [[one for index in row for one in self._held_out.group(numbers[index])] for row in packed]
        size = max(1, AT_ONCE // self.context)
        return [rows[start : start + size] for start in range(0, len(rows), size)]


def segment_log_probs(model: Decoder, batch: Batch, segments: int) -> tuple[Tensor, Tensor]:
    """The summed log-probability of the learned tokens of each segment, and their number, each `[rows, segments]`.

    Segments that a row does not have are 0. Only learned tokens reach the output projection.
    """
    assert batch.segments is not None, "pairs are packed"
    hidden_btd = model.model(batch.inputs, segments_bt=batch.segments)
    learned = batch.targets != IGNORE
    found_n = log_probs(model, hidden_btd[learned], batch.targets[learned])
    rows = torch.arange(len(batch), device=learned.device)[:, None] * segments
    owners = (rows + batch.segments)[learned]
    counts = torch.bincount(owners, minlength=len(batch) * segments)
    sums = torch.stack([part.sum() for part in found_n.split(counts.tolist())])
    return sums.view(-1, segments), counts.view(-1, segments)


def _won(margins: Tensor) -> Tensor:
    """1 where the margin is positive, 0.5 where it is 0."""
    return (torch.sign(margins) + 1) / 2
