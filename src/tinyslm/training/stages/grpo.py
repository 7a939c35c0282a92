"""The stage grpo: reinforcement learning with verifiable rewards (group relative policy optimization).

The model answers each prompt several times; a grader scores the answers; answers that score better than the mean of
their group become more probable, the others less. Losses: GRPO (Shao et al., 2024), Dr. GRPO (Liu et al., 2025), DAPO
(Yu et al., 2025), with the importance ratio per token or per sequence (GSPO, Zheng et al., 2025).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tinyslm.data.examples import Example, arrays_of, packed_rows
from tinyslm.data.prompts import Prompt, open_prompts
from tinyslm.evaluation.graders import FAILED, Grade, Grader, find_grader
from tinyslm.evaluation.intervals import mean_estimate
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.inference.request import Completion
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import find_model, load_model
from tinyslm.model.lora import has_adapters, without_adapters
from tinyslm.model.loss import IGNORE, log_probs
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.alarms import Alarms
from tinyslm.training.config import RunConfig
from tinyslm.training.rollouts import Sampler, advantages, grade_all, learned_ids, plain_sampling, read_grammar
from tinyslm.training.stage import Batch, Question
from tinyslm.training.stage_config import GrpoConfig
from tinyslm.training.world import World

SCORED_AT_ONCE = 2048
"""Tokens per forward pass where no gradient is needed."""


@dataclass(frozen=True)
class Answer:
    """A sampled answer to learn from.

    prompt: its number in the training split. ids: the tokens that the model chose. old, reference: their
    log-probabilities when they were sampled, and by the model at the start; empty where they are not needed.
    """

    prompt: int
    ids: Sequence[int]
    advantage: float
    old: Sequence[float] = ()
    reference: Sequence[float] = ()


class Rollouts:
    """Batches of answers that the model samples. Prompts come in a new order each epoch."""

    def __init__(
        self, prompts: Sequence[Prompt], grader: Grader, sampler: Sampler, config: RunConfig, world: World
    ) -> None:
        self._prompts, self._grader, self.sampler = prompts, grader, sampler
        self._config, self._settings, self._world = config, config.grpo, world
        self._dtype = pick_dtype(pick_device(config.train.device), config.train.dtype)
        self._reference: Decoder | None = None
        self._sampled = 0
        self._waiting: list[list[Answer]] = []
        self._metrics: dict[str, float] = {}

    def next(self, model: Decoder) -> Batch:
        """See `Batches.next`; samples new answers when all are used."""
        if not self._waiting:
            self._waiting = self._sample(model)
        return self._batch(self._waiting.pop(0))

    def state(self) -> dict[str, Any]:
        """See `Batches.state`."""
        waiting = [[asdict(answer) for answer in part] for part in self._waiting]
        return {"sampled": self._sampled, "waiting": waiting, "metrics": self._metrics}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Batches.restore`."""
        self._sampled, self._metrics = state["sampled"], dict(state["metrics"])
        self._waiting = [[Answer(**answer) for answer in part] for part in state["waiting"]]

    def _chosen(self) -> list[int]:
        """The prompts to answer next: this process's share of them."""
        count, total = self._settings.prompts, len(self._prompts)
        places = range(self._sampled * count, (self._sampled + 1) * count)
        orders = {epoch: self._random(epoch).permutation(total) for epoch in {place // total for place in places}}
        return [int(orders[place // total][place % total]) for place in places][self._world.share(count)]

    def _random(self, *place: int) -> np.random.Generator:
        return np.random.default_rng([self._config.train.seed, *place])

    def _sample(self, model: Decoder) -> list[list[Answer]]:
        """Answers to the next prompts, graded, in as many parts as updates are made from them.

        Each process answers its share of the prompts; then all have all answers, in the order of the prompts.
        """
        settings, chosen = self._settings, self._chosen()
        self.sampler.load(model)
        seeds = [int(self._random(1, self._sampled, number).integers(2**40)) for number in chosen]
        completions = self.sampler.answers(
            [self._prompts[number] for number in chosen],
            settings.group,
            plain_sampling(settings.max_tokens, settings.temperature),
            seeds,
        )
        asked = (
            (self._prompts[number].example, one.text)
            for number, group in zip(chosen, completions, strict=True)
            for one in group
        )
        grades = iter(grade_all(self._grader, asked))
        grouped = [[next(grades) for _ in group] for group in completions]
        answers = [
            Answer(number, learned_ids(one), 0.0 if self._skips(one) else advantage)
            for number, group, marks in zip(chosen, completions, grouped, strict=True)
            for one, advantage in zip(
                group, advantages([mark.score for mark in marks], scaled=settings.scaled), strict=True
            )
        ]
        answers = self._with_log_probs(model, answers)
        made, sampled, graded = zip(*self._world.gather((answers, completions, grouped)), strict=True)
        answers = list(chain(*made))
        self._metrics = metrics_of(list(chain(*sampled)), list(chain(*graded)))
        order = self._random(2, self._sampled).permutation(len(answers))
        self._sampled += 1
        return [[answers[place] for place in part] for part in np.array_split(order, settings.updates) if len(part)]

    def _skips(self, completion: Completion) -> bool:
        return self._settings.skip_truncated and completion.finish == "length"

    def _with_log_probs(self, model: Decoder, answers: list[Answer]) -> list[Answer]:
        """The answers with the log-probabilities that the loss compares the new ones with."""
        old: Sequence[Sequence[float]] = [()] * len(answers)
        reference = old
        if self._settings.updates > 1:
            old = self._log_probs(model, answers)
        if self._settings.kl:
            if has_adapters(model):
                with without_adapters(model):
                    reference = self._log_probs(model, answers)
            else:
                reference = self._log_probs(self._first_model(model.device), answers)
        return [
            Answer(one.prompt, one.ids, one.advantage, before, first)
            for one, before, first in zip(answers, old, reference, strict=True)
        ]

    def _first_model(self, device: torch.device) -> Decoder:
        if self._reference is None:
            folder = find_model(Path(self._config.train.start_from))
            self._reference = load_model(folder, device=device, dense=True).requires_grad_(False)
        return self._reference

    def _log_probs(self, model: Decoder, answers: Sequence[Answer]) -> list[list[float]]:
        """The log-probabilities of the answers' tokens, by the same kernels as in training."""
        model.eval()
        examples = [self._example(answer) for answer in answers]
        rows = packed_rows([len(example.ids) for example in examples], self._config.row_tokens)
        found: list[list[float]] = [[] for _ in answers]
        size = max(1, SCORED_AT_ONCE // self._config.row_tokens)
        for part in (rows[start : start + size] for start in range(0, len(rows), size)):
            inputs, targets, segments = (
                torch.from_numpy(one).to(model.device)
                for one in arrays_of([[examples[i] for i in row] for row in part])
            )
            batch = Batch(inputs, targets, segments)
            values = target_log_probs(model, batch, self._settings.temperature, self._dtype).tolist()
            for number in (number for row in part for number in row):
                count = len(answers[number].ids)
                found[number], values = values[:count], values[count:]
        return found

    def _example(self, answer: Answer) -> Example:
        prompt = self._prompts[answer.prompt].ids
        ids = np.array([*prompt, *answer.ids], np.int64)
        return Example(ids, np.arange(len(ids)) >= len(prompt))

    def _batch(self, answers: Sequence[Answer]) -> Batch:
        """Packed rows. An answer without an advantage has no gradient, so only its weight is kept."""
        settings = self._settings
        weights = [float(len(one.ids)) if settings.loss == "dapo" else 1.0 for one in answers]
        used = [place for place, one in enumerate(answers) if one.advantage or settings.kl] or [0]
        examples = [self._example(answers[place]) for place in used]
        packed = packed_rows([len(example.ids) for example in examples], self._config.row_tokens)
        inputs, targets, segments = (
            torch.from_numpy(one) for one in arrays_of([[examples[index] for index in row] for row in packed])
        )
        ordered = [answers[used[index]] for row in packed for index in row]
        extra = {"advantages": _spread(targets, [[one.advantage] * len(one.ids) for one in ordered])}
        extra["scale"] = _spread(targets, [[self._scale(one)] * len(one.ids) for one in ordered])
        extra["sequence"] = _spread(targets, [[place] * len(one.ids) for place, one in enumerate(ordered)])
        for name in ("old", "reference"):
            if getattr(ordered[0], name):
                extra[name] = _spread(targets, [getattr(one, name) for one in ordered])
        rows = torch.tensor([sum(weights[used[index]] for index in row) for row in packed])
        rows[0] += sum(weights) - float(rows.sum())
        return self._share(Batch(inputs, targets, segments, extra | {"weight": rows}, self._metrics))

    def _share(self, batch: Batch) -> Batch:
        """This process's rows of a batch; where there are fewer rows than processes, a row from which nothing is
        learned, as all processes take part in an update."""
        rows = self._world.share(len(batch))
        if rows.start < rows.stop:
            return batch.rows(rows)
        first = batch.rows(slice(0, 1))
        nothing = {**first.extra, "weight": torch.zeros(1)}
        return replace(first, targets=torch.full_like(first.targets, IGNORE), extra=nothing)

    def _scale(self, answer: Answer) -> float:
        return {"dapo": 1.0, "grpo": 1 / len(answer.ids), "dr_grpo": 1 / self._settings.max_tokens}[self._settings.loss]


class Grpo:
    """A `Stage`: a policy loss, and as its score the mean reward of greedy answers to held-out prompts."""

    def __init__(
        self, held_out: Sequence[Prompt], tokenizer: Tokenizer, batches: Rollouts, grader: Grader, config: RunConfig
    ) -> None:
        self.tokenizer, self.batches = tokenizer, batches
        self._held_out, self._grader, self._config, self._settings = held_out, grader, config, config.grpo
        self._dtype = pick_dtype(pick_device(config.train.device), config.train.dtype)
        self._alarms = Alarms()

    @classmethod
    def open(cls, data: Path, config: RunConfig, world: World) -> Grpo:
        """Open the stage on a prompts folder, with the grader in `train.grader`.

        Raises `TinyslmError` for another kind of folder, and for a grader or grammar that cannot be used.
        """
        train, held_out, tokenizer = open_prompts(data)
        grader = find_grader(config.train.grader)
        dtype = pick_dtype(pick_device(config.train.device), config.train.dtype)
        grammar = read_grammar(config.grpo.grammar, tokenizer)
        sampler = Sampler(tokenizer, config.row_tokens, dtype, grammar)
        return cls(held_out, tokenizer, Rollouts(train, grader, sampler, config, world), grader, config)

    @property
    def held_out_tokens(self) -> int:
        """See `Stage`; each answer counts as many tokens as a row."""
        return len(self._held_out) * self._config.row_tokens

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, float, Mapping[str, float]]:
        """The weight is that of `grpo.loss`: tokens or answers."""
        learned = batch.targets != IGNORE
        found_n = target_log_probs(model, batch, self._settings.temperature)
        extra = {name: tensor[learned] for name, tensor in batch.extra.items() if name != "weight"}
        loss_n, metrics = policy_losses(found_n, extra, self._settings)
        return (loss_n * extra["scale"]).sum(), float(batch.extra["weight"].sum()), metrics

    def validate(self, model: Decoder, dtype: torch.dtype, tokens: int) -> float:  # noqa: ARG002
        """1 minus the mean reward of greedy answers to about `tokens` / row tokens held-out prompts."""
        return 1 - float(np.mean([grade.score for grade in self._grades(model, tokens)]))

    def in_units(self, loss: float, *, held_out: bool) -> Mapping[str, float]:
        """The mean reward, for held-out prompts."""
        return {"reward": 1 - loss} if held_out else {}

    def sample(self, model: Decoder, seed: int) -> str:  # noqa: ARG002
        """The greedy answer to the first held-out prompt."""
        return self._answers(model, self._held_out[:1])[0].text

    def score(self, model: Decoder, tokens: int, check: Callable[[], None]) -> Mapping[str, Any]:
        """The mean reward of greedy answers to held-out prompts, with its 95 % bootstrap interval."""
        check()
        scores = np.array([grade.score for grade in self._grades(model, tokens)])
        found = mean_estimate(scores)
        return {
            "reward": found.value,
            "loss": 1 - found.value,
            "low": found.low,
            "high": found.high,
            "prompts": len(scores),
        }

    def questions(self, count: int) -> list[Question]:
        """See `Asking`."""
        most = self._settings.max_tokens
        return [
            Question(one.ids, one.example, one.text, str(one.example.get("answer", "")), most)
            for one in self._spread(count)
        ]

    def warnings(self, metrics: Mapping[str, float]) -> Sequence[str]:
        """See `Stage.warnings`."""
        return self._alarms.after(metrics)

    def _grades(self, model: Decoder, tokens: int) -> list[Grade]:
        prompts = self._spread(max(1, tokens // self._config.row_tokens))
        answers = zip(prompts, self._answers(model, prompts), strict=True)
        return grade_all(self._grader, ((prompt.example, answer.text) for prompt, answer in answers))

    def _spread(self, count: int) -> list[Prompt]:
        """So many held-out prompts at most, spread evenly over all."""
        count = min(count, len(self._held_out))
        return [self._held_out[index * len(self._held_out) // count] for index in range(count)]

    def _answers(self, model: Decoder, prompts: Sequence[Prompt]) -> list[Completion]:
        """A greedy answer to each prompt."""
        sampler = self.batches.sampler
        sampler.load(model)
        settings = plain_sampling(self._settings.max_tokens, 0.0)
        return [group[0] for group in sampler.answers(prompts, 1, settings, [0] * len(prompts))]


def target_log_probs(model: Decoder, batch: Batch, temperature: float, dtype: torch.dtype | None = None) -> Tensor:
    """The log-probabilities of a batch's targets at a temperature, fp32 `[learned]`, in the order of the rows.

    dtype: of the products; by default that of the caller's autocast.
    """
    learned = batch.targets != IGNORE
    if dtype is None:
        hidden_btd = model.model(batch.inputs, segments_bt=batch.segments)
        return log_probs(model, hidden_btd[learned], batch.targets[learned], temperature)
    with torch.autocast(batch.inputs.device.type, dtype, enabled=dtype != torch.float32):
        return target_log_probs(model, batch, temperature)


def policy_losses(
    found_n: Tensor, extra: Mapping[str, Tensor], settings: GrpoConfig
) -> tuple[Tensor, dict[str, float]]:
    """The loss of each token, `[n]`, and metrics.

    found_n: log-probabilities of the tokens now. extra, each `[n]`: "advantages"; "sequence", which answer a token
    belongs to; "old" and "reference", log-probabilities when the token was sampled and by the first model. Without
    "old", the answers come from this very model.
    """
    log_ratio_n = found_n - extra.get("old", found_n.detach())
    if settings.importance == "sequence":
        log_ratio_n = _means(log_ratio_n, extra["sequence"].long())
    ratio_n, advantages_n = log_ratio_n.exp(), extra["advantages"]
    clipped_n = ratio_n.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    loss_n = -torch.minimum(ratio_n * advantages_n, clipped_n * advantages_n)
    outside_n = ((ratio_n < 1 - settings.clip_low) & (advantages_n < 0)) | (
        (ratio_n > 1 + settings.clip_high) & (advantages_n > 0)
    )
    metrics = {"clipped": float(outside_n.float().mean()), "entropy": -float(found_n.detach().mean())}
    if "reference" in extra:
        away_n = extra["reference"] - found_n
        kl_n = away_n.exp() - away_n - 1  # Schulman's estimator k3: unbiased, and never negative
        # Times the ratio, its gradient is that of the divergence (DeepSeek-V3.2, 2025).
        loss_n = loss_n + settings.kl * kl_n * ratio_n
        metrics["kl"] = float(kl_n.detach().mean())
    return loss_n, metrics


def metrics_of(completions: Sequence[Sequence[Completion]], grades: Sequence[Sequence[Grade]]) -> dict[str, float]:
    """Figures about sampled answers: rewards and their parts, equal groups, lengths."""
    every = [grade for group in grades for grade in group]
    answers = [one for group in completions for one in group]
    parts: Counter[str] = Counter()
    for grade in every:
        parts.update(grade.parts)
    equal = [len({grade.score for grade in group}) == 1 for group in grades]
    return {
        "reward": float(np.mean([grade.score for grade in every])),
        "equal_groups": float(np.mean(equal)),
        "answer_tokens": float(np.mean([one.tokens for one in answers])),
        "truncated": float(np.mean([one.finish == "length" for one in answers])),
        **{f"reward_{name}": value / len(every) for name, value in sorted(parts.items())},
        FAILED: parts[FAILED] / len(every),
    }


def _means(values_n: Tensor, owners_n: Tensor) -> Tensor:
    """Each value replaced by the mean over its owner's values."""
    count = int(owners_n.max()) + 1
    sums = values_n.new_zeros(count).index_add(0, owners_n, values_n)
    sizes = values_n.new_zeros(count).index_add(0, owners_n, torch.ones_like(values_n))
    return (sums / sizes)[owners_n]


def _spread(targets: Tensor, values: Sequence[Sequence[float]]) -> Tensor:
    """Values of the learned tokens of all answers, in the order of the rows, at their places; `[rows, t]`."""
    spread = torch.zeros(targets.shape)
    spread[targets != IGNORE] = torch.tensor([value for one in values for value in one], dtype=torch.float32)
    return spread
