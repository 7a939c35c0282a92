"""Search for the shape, vocabulary and batch with the best predicted score within a budget.

The search covers the range of the runs that the law was fitted on, and a little beyond. A setting that the user has
fixed is the only value of its axis.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from tinyslm.core.config import Section, build_config, merge, override
from tinyslm.core.errors import TinyslmError
from tinyslm.core.quantities import count, size
from tinyslm.model.config import ModelConfig
from tinyslm.planning.cost import MachineCosts
from tinyslm.planning.law import Expected, Law, conditions
from tinyslm.planning.rates import rates
from tinyslm.planning.survey import Survey
from tinyslm.tokenizer.vocabulary import SMALLEST as BYTE_VOCABULARY
from tinyslm.training.config import RunConfig
from tinyslm.training.deadline import (
    FEWEST_VALIDATED,
    MOST_SCORED,
    QUICK_TOKENS,
    SCORING_SHARE,
    VALIDATING_SHARE,
    VALIDATIONS,
)
from tinyslm.training.memory import planned_peak_bytes

DIMS = (*range(64, 1024, 64), *range(1024, 2049, 256))
WIDEST, NARROWEST = 96, 24
"""Limits of the width per block: between them, the ratio of depth to width hardly affects the score."""
CONTEXTS = (128, 256, 512, 1024)
UPDATES = tuple(1 << power for power in range(10, 20))
BEYOND_WEIGHTS, BEYOND = 8.0, 2.0
"""Factors by which the number of weights may exceed the range of the law, upwards and downwards; other quantities may
not."""
MOST_EPOCHS = 8
"""More epochs did not improve the score, or made it worse: the model memorizes the text (docs/LOG.md)."""
FEWEST_STEPS = 20
"""With fewer updates, a model hardly learns, and the law does not hold: chosen only if no candidate has more."""
FIXED_SECONDS = 6.0
"""Constant time of a run: starting, writing, drawing the report."""
LARGE_PART = 2048
"""Micro-batches of fewer tokens are slow: activations are recomputed before micro-batches become smaller."""
PARAMETERS_WITHIN = 0.15
"""Tolerance for a requested number of parameters."""


class Budget(Section):
    """The limits of a run. Without minutes and tokens, neither is limited."""

    minutes: float | None = Field(default=None, gt=0, description="Minutes of training.")
    tokens: int | None = Field(default=None, gt=0, description="Tokens to train on, however long it takes.")
    parameters: int | None = Field(default=None, gt=0, description="Parameters of the model, roughly.")
    memory_bytes: int | None = Field(default=None, gt=0, description="Most memory that the process may hold.")


@dataclass(frozen=True)
class Candidate:
    """Settings without a length, and the seconds that the parts of their run take on this machine.

    update: one update. fixed: before the first update and after the last one. validations, scoring: all validations
    during the run, and the final score, as (minimum, maximum); between these, a run spends a share of its time.
    """

    config: RunConfig
    update: float
    validations: tuple[float, float]
    scoring: tuple[float, float]
    fixed: float

    @classmethod
    def of(cls, config: RunConfig, survey: Survey, costs: MachineCosts) -> "Candidate":
        """Compute the times of settings from the costs of the machine."""
        held_out = int(survey.held_out_bytes / survey.bytes_in_token(config.model.vocab_size, held_out=True))
        train = config.train
        validated = [train.validation_tokens or tokens for tokens in (FEWEST_VALIDATED, QUICK_TOKENS)]
        scored = [train.score_tokens or tokens for tokens in (QUICK_TOKENS, MOST_SCORED)]
        rates = costs.rates(config)
        validation, score = VALIDATIONS * rates.validation, rates.scoring
        return cls(
            config=config,
            update=rates.update,
            validations=(validation * min(validated[0], held_out), validation * min(validated[1], held_out)),
            scoring=(score * min(scored[0], held_out), score * min(scored[1], held_out)),
            fixed=FIXED_SECONDS + 2 * survey.seconds + survey.probing_seconds + costs.measuring_seconds,
        )

    def steps(self, seconds: float) -> int:
        """The number of updates in a run of this many seconds."""
        return max(1, int((seconds - self._overhead(seconds)) / self.update))

    def seconds(self, steps: int) -> float:
        """The duration of a run with this many updates."""
        updates = steps * self.update
        low, high = updates, 2 * (updates + self._overhead(0) + self.scoring[1] + self.validations[1])
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if middle - self._overhead(middle) >= updates else (middle, high)
        return high

    def _overhead(self, seconds: float) -> float:
        """The time without updates in a run of this many seconds."""
        validating = sorted((*self.validations, VALIDATING_SHARE * seconds))[1]
        scoring = sorted((*self.scoring, SCORING_SHARE * seconds))[1]
        return self.fixed + validating + scoring

    @property
    def tokens_per_update(self) -> int:
        """Tokens per update."""
        return self.config.train.batch * self.config.model.context


@dataclass(frozen=True)
class Choice:
    """The chosen settings, and the prediction for them."""

    config: RunConfig
    steps: int
    seconds: float
    expected: Expected


class Search:
    """Chooses from all candidates for a text on a machine. given: the settings that the user fixed, nested."""

    def __init__(self, survey: Survey, costs: MachineCosts, law: Law, given: Mapping[str, Any]) -> None:
        self._survey, self._costs, self._law = survey, costs, law
        self._base = build_config(RunConfig, given)
        self._given = _typed(self._base, given)
        self._candidates = [self._candidate(config) for config in self._configs()]

    def choose(self, budget: Budget) -> Choice:
        """The candidate with the lowest predicted bits per byte within the budget.

        Raises `TinyslmError` if there is none: the memory or the number of parameters is too small.
        """
        candidates = self._of_size(budget.parameters)
        if budget.tokens is not None and budget.minutes is None:
            return self._choose_for_tokens(candidates, budget.tokens, budget.memory_bytes)
        seconds = math.inf if budget.minutes is None else 60 * budget.minutes
        return self._best(candidates, seconds, budget.tokens, budget.memory_bytes)

    def _choose_for_tokens(self, candidates: Sequence[Candidate], tokens: int, memory: int | None) -> Choice:
        """Search for the time budget whose best shape reads this many tokens: a larger model would use its time worse
        than a smaller one with more text."""
        candidates = _with_steps(candidates, lambda one: tokens // one.tokens_per_update)
        low, high = 1e-3, 1e9
        for _ in range(40):
            middle = math.sqrt(low * high)
            best = self._best(candidates, middle, None, memory)
            reads = best.steps * best.config.train.batch * best.config.model.context
            low, high = (middle, high) if reads < tokens else (low, middle)
        shape = self._best(candidates, high, None, memory).config
        (chosen,) = [one for one in candidates if _same_shape(one.config, shape)]
        return self._finished(chosen, max(1, round(tokens / chosen.tokens_per_update)), None)

    def _best(self, candidates: Sequence[Candidate], seconds: float, tokens: int | None, memory: int | None) -> Choice:
        """The best candidate that fits into the memory, if necessary with micro-batches or recomputed activations."""

        def bits(one: Candidate) -> float:
            return self._expected(one, self._steps(one, seconds, tokens)).bits_per_byte

        for candidate in sorted(_with_steps(candidates, lambda one: self._steps(one, seconds, tokens)), key=bits):
            for way in _ways(candidate.config, self._given.get("train", {})):
                if memory is not None and planned_peak_bytes(way) > memory:
                    continue
                fitting = self._candidate(way)
                chosen = self._finished(fitting, self._steps(fitting, seconds, tokens), seconds)
                if memory is None or planned_peak_bytes(chosen.config) <= memory:  # dropout needs memory too
                    return chosen
        least = min(
            planned_peak_bytes(way) for one in candidates for way in _ways(one.config, self._given.get("train", {}))
        )
        raise TinyslmError(
            f"No model that could be planned trains in {size(memory or 0)} of memory.",
            f"Allow more: {size(least)} is the least.",
        )

    def _steps(self, one: Candidate, seconds: float, tokens: int | None) -> int:
        """The number of updates that the budget and the text allow."""
        most = MOST_EPOCHS * self._survey.training_bytes / self._survey.bytes_in_token(one.config.model.vocab_size)
        limit = max(1, int(min(most, tokens or most) / one.tokens_per_update))
        return limit if math.isinf(seconds) else min(limit, one.steps(seconds))

    def _finished(self, one: Candidate, steps: int, seconds: float | None) -> Choice:
        """Complete a candidate with learning rates and dropout. If only the time limits it, its settings have minutes
        instead of steps, because the run measures its own speed."""
        config = one.config
        about = conditions(self._survey, config.model, config.train.batch, steps)
        epochs, weights = about.tokens / about.unique_tokens, about.block_weights / about.unique_tokens
        rated = rates(config.model.dim, one.tokens_per_update, steps, epochs, weights)
        by_time = seconds is not None and not math.isinf(seconds) and steps == one.steps(seconds)
        length = {"minutes": round(seconds / 60, 6)} if by_time and seconds else {"steps": steps}
        settings = merge(_shape(config), merge(rated, {"train": length}))
        return Choice(
            build_config(RunConfig, override(RunConfig, settings, self._given)),
            steps,
            one.seconds(steps),
            self._expected(one, steps),
        )

    def _expected(self, one: Candidate, steps: int) -> Expected:
        return self._law.expect(conditions(self._survey, one.config.model, one.config.train.batch, steps))

    def _candidate(self, config: RunConfig) -> Candidate:
        return Candidate.of(config, self._survey, self._costs)

    def _configs(self) -> Iterator[RunConfig]:
        """Yield every valid combination of the axes. Raises `TinyslmError` if there is none."""
        model, train = self._given.get("model", {}), self._given.get("train", {})
        problem: TinyslmError | None = None
        none = True
        vocabularies = self._vocabularies()
        for dim, depth, context in self._shapes(model):
            shape = {"dim": dim, "depth": depth, "context": context, "vocab_size": vocabularies[0]}
            try:
                checked = build_config(ModelConfig, merge(model, shape))
            except TinyslmError as error:
                problem = problem or error
                continue
            for vocab_size in vocabularies:
                built = checked.model_copy(update={"vocab_size": vocab_size})
                if not (self._fitted_size(built.parameters) or {"dim", "depth"} <= {*model}):
                    continue
                for batch in self._batches(context, train):
                    none = False
                    yield self._base.model_copy(
                        update={"model": built, "train": self._base.train.model_copy(update={"batch": batch})}
                    )
        if none:
            raise problem or TinyslmError(
                "No model can be planned with these settings.", "Fix fewer of them, or train without a plan."
            )

    def _vocabularies(self) -> list[int]:
        """The only possible size, else the requested one, else all that the text supports and the law covers."""
        if len(self._survey.bytes_per_token) == 1:
            return list(self._survey.bytes_per_token)
        tokenizer = self._base.tokenizer
        if "tokenizer" in self._given and tokenizer.known_size:
            return [tokenizer.known_size]
        known = self._law.vocabulary
        return [one for one in self._survey.bytes_per_token if known.low <= one <= known.high]

    def _shapes(self, model: Mapping[str, Any]) -> Iterator[tuple[int, int, int]]:
        known = self._law.context
        dims = (model["dim"],) if "dim" in model else DIMS
        contexts = [context for context in CONTEXTS if known.low <= context <= known.high]
        for dim in dims:
            depths = range(max(2, math.ceil(dim / WIDEST)), max(4, dim // NARROWEST) + 1)
            for depth in (model["depth"],) if "depth" in model else depths:
                for context in (model["context"],) if "context" in model else contexts:
                    yield dim, depth, context

    def _fitted_size(self, parameters: int) -> bool:
        known = self._law.weights
        return known.low / BEYOND <= parameters / 1e6 <= BEYOND_WEIGHTS * known.high

    def _batches(self, context: int, train: Mapping[str, Any]) -> Iterator[int]:
        if "batch" in train:
            yield self._base.train.batch
            return
        known = self._law.update
        for tokens in UPDATES:
            if known.low <= tokens <= known.high and tokens >= context:
                yield tokens // context

    def _of_size(self, parameters: int | None) -> Sequence[Candidate]:
        """The candidates with about this many parameters, or the nearest ones. Raises `TinyslmError` if all are far."""
        if parameters is None:
            return self._candidates

        def distance(one: Candidate) -> float:
            return abs(math.log(one.config.model.parameters / parameters))

        distances = [distance(one) for one in self._candidates]
        nearest = min(distances)
        if nearest > 2 * PARAMETERS_WITHIN:
            sizes = sorted(one.config.model.parameters for one in self._candidates)
            raise TinyslmError(
                f"No model of about {count(parameters)} parameters could be planned.",
                f"Plans have {count(sizes[0])} to {count(sizes[-1])}; for another size, give the shape "
                "(--model.dim, --model.depth).",
            )
        within = max(nearest, math.log1p(PARAMETERS_WITHIN))
        return [one for one, far in zip(self._candidates, distances, strict=True) if far <= within]


def _with_steps(candidates: Sequence[Candidate], steps: Callable[[Candidate], int]) -> Sequence[Candidate]:
    """The candidates with enough updates, or the one with the most."""
    return [one for one in candidates if steps(one) >= FEWEST_STEPS] or [max(candidates, key=steps)]


def tokenizer_settings(vocab_size: int) -> dict[str, Any]:
    """Settings of a tokenizer with this many tokens."""
    if vocab_size == BYTE_VOCABULARY:
        return {"kind": "byte"}
    return {"kind": "bpe", "vocab_size": vocab_size}


def _typed(base: RunConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings with their values in `base`, where strings have become numbers."""
    values = base.model_dump()
    return {name: {key: values[name][key] for key in section} for name, section in given.items()}


def _shape(config: RunConfig) -> dict[str, Any]:
    """The axes of the search, as settings."""
    model = config.model
    return {
        "model": {"dim": model.dim, "depth": model.depth, "context": model.context, "vocab_size": model.vocab_size},
        "tokenizer": tokenizer_settings(model.vocab_size),
        "train": config.train.model_dump(include={"batch", "micro_batch", "checkpoint_activations"}),
    }


def _same_shape(one: RunConfig, other: RunConfig) -> bool:
    names = ("dim", "depth", "context", "vocab_size")
    same = all(getattr(one.model, name) == getattr(other.model, name) for name in names)
    return same and one.train.batch == other.train.batch


def _ways(config: RunConfig, given: Mapping[str, Any]) -> Iterator[RunConfig]:
    """Settings that compute the same update, in the order of decreasing speed and memory."""
    whole = config.train.micro_batch or config.train.batch
    parts = [part for part in range(whole, 0, -1) if not config.train.batch % part]
    parts = parts[:1] if given.get("micro_batch") else parts
    large = [part for part in parts if part * config.model.context >= LARGE_PART] or parts[:1]
    again = [config.train.checkpoint_activations] if "checkpoint_activations" in given else [False, True]
    for sizes, checkpoints in ((large, again), (parts, again[-1:])):
        for checkpoint in checkpoints:
            for part in sizes:
                micro_batch = 0 if part == config.train.batch else part
                changes = {"micro_batch": micro_batch, "checkpoint_activations": checkpoint}
                yield config.model_copy(update={"train": config.train.model_copy(update=changes)})
