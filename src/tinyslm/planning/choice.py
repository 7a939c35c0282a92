"""The choice: of all shapes, vocabularies and batches, what is expected to score best within a budget.

It is a search over what the law was fitted on and a little beyond, so that nothing is promised that nobody has tried.
What the user has fixed is one value of its axis, whatever it is.
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
from tinyslm.tokenizer.vocabulary import round_up
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
"""Widths for each block: between these, depth and width are worth about the same."""
CONTEXTS = (128, 256, 512, 1024)
UPDATES = tuple(1 << power for power in range(10, 20))
BEYOND_WEIGHTS, BEYOND = 8.0, 2.0
"""How far the search goes beyond the weights that the law was fitted on, up and down; not at all in all else."""
MOST_EPOCHS = 8
"""More readings were worth nothing or less: the text is learned by heart (docs/LOG.md)."""
FEWEST_STEPS = 20
"""With fewer updates a model hardly learns, and the law does not know it: such a model is chosen only if all are."""
FIXED_SECONDS = 6.0
"""What a run takes besides its updates, whatever it is: starting, writing, drawing the report."""
LARGE_PART = 2048
"""Tokens that are worth computing at once; before parts become smaller, blocks are computed again."""
PARAMETERS_WITHIN = 0.15
"""A wanted number of parameters is met within this share, as shapes allow."""


class Budget(Section):
    """What a training may take. Without minutes and tokens there is no limit to either."""

    minutes: float | None = Field(default=None, gt=0, description="Minutes of training.")
    tokens: int | None = Field(default=None, gt=0, description="Tokens to train on, however long it takes.")
    parameters: int | None = Field(default=None, gt=0, description="Parameters of the model, roughly.")
    memory_bytes: int | None = Field(default=None, gt=0, description="Most memory that the process may hold.")


@dataclass(frozen=True)
class Candidate:
    """Settings without a length, and what the parts of their run take on this machine in seconds.

    fixed: before the first update and after the last one. validations, scoring: all quick looks at validation text, and
    the final score; the least and the most, between which a run takes a share of its time.
    """

    config: RunConfig
    update: float
    validations: tuple[float, float]
    scoring: tuple[float, float]
    fixed: float

    @classmethod
    def of(cls, config: RunConfig, survey: Survey, costs: MachineCosts) -> "Candidate":
        """What the costs say of settings."""
        held_out = int(survey.held_out_bytes / survey.bytes_in_token(config.model.vocab_size, held_out=True))
        train = config.train
        looked = [train.validation_tokens or tokens for tokens in (FEWEST_VALIDATED, QUICK_TOKENS)]
        scored = [train.score_tokens or tokens for tokens in (QUICK_TOKENS, MOST_SCORED)]
        rates = costs.rates(config)
        look, score = rates.validation, rates.scoring
        return cls(
            config=config,
            update=rates.update,
            validations=(VALIDATIONS * look * min(looked[0], held_out), VALIDATIONS * look * min(looked[1], held_out)),
            scoring=(score * min(scored[0], held_out), score * min(scored[1], held_out)),
            fixed=FIXED_SECONDS + 2 * survey.seconds + survey.probing_seconds + costs.measuring_seconds,
        )

    def steps(self, seconds: float) -> int:
        """Updates that fit into a time."""
        return max(1, int((seconds - self._overhead(seconds)) / self.update))

    def seconds(self, steps: int) -> float:
        """Time that so many updates take, with everything."""
        updates = steps * self.update
        low, high = updates, 2 * (updates + self._overhead(0) + self.scoring[1] + self.validations[1])
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if middle - self._overhead(middle) >= updates else (middle, high)
        return high

    def _overhead(self, seconds: float) -> float:
        """What a run of so many seconds spends on other things than updates."""
        looking = sorted((*self.validations, VALIDATING_SHARE * seconds))[1]
        scoring = sorted((*self.scoring, SCORING_SHARE * seconds))[1]
        return self.fixed + looking + scoring

    @property
    def tokens_per_update(self) -> int:
        """Tokens that an update reads."""
        return self.config.train.batch * self.config.model.context


@dataclass(frozen=True)
class Choice:
    """What was chosen, and what is expected of it."""

    config: RunConfig
    steps: int
    seconds: float
    expected: Expected


class Search:
    """All candidates for a text on a machine, from which choices for budgets are made.

    given: the settings that the user fixed, nested.
    """

    def __init__(self, survey: Survey, costs: MachineCosts, law: Law, given: Mapping[str, Any]) -> None:
        self._survey, self._costs, self._law = survey, costs, law
        self._base = build_config(RunConfig, given)
        self._given = _typed(self._base, given)
        self._candidates = [self._candidate(config) for config in self._configs()]

    def choose(self, budget: Budget) -> Choice:
        """The candidate with the least expected bits per byte within the budget.

        Raises `TinyslmError` when there is none: the memory or the number of parameters is too small.
        """
        candidates = self._of_size(budget.parameters)
        if budget.tokens is not None and budget.minutes is None:
            return self._choose_for_tokens(candidates, budget.tokens, budget.memory_bytes)
        seconds = math.inf if budget.minutes is None else 60 * budget.minutes
        return self._best(candidates, seconds, budget.tokens, budget.memory_bytes)

    def _choose_for_tokens(self, candidates: Sequence[Candidate], tokens: int, memory: int | None) -> Choice:
        """The shape that would read so many tokens if the time it needs were the budget: neither too small a model for
        them nor one whose time were better spent on a smaller one and more text."""
        candidates = _with_steps(candidates, lambda one: tokens // one.tokens_per_update)
        low, high = 1e-3, 1e9
        for _ in range(40):
            middle = math.sqrt(low * high)
            found = self._best(candidates, middle, None, memory)
            reads = found.steps * found.config.train.batch * found.config.model.context
            low, high = (middle, high) if reads < tokens else (low, middle)
        shape = self._best(candidates, high, None, memory).config
        (chosen,) = [one for one in candidates if _same_shape(one.config, shape)]
        return self._finished(chosen, max(1, round(tokens / chosen.tokens_per_update)), None)

    def _best(self, candidates: Sequence[Candidate], seconds: float, tokens: int | None, memory: int | None) -> Choice:
        """The best candidate that fits into the memory, whole or in parts, in the end with blocks computed again."""

        def bits(one: Candidate) -> float:
            return self._expected(one, self._steps(one, seconds, tokens)).bits_per_byte

        for candidate in sorted(_with_steps(candidates, lambda one: self._steps(one, seconds, tokens)), key=bits):
            for way in _ways(candidate.config, self._given.get("train", {})):
                if memory is not None and planned_peak_bytes(way) > memory:
                    continue
                fitting = self._candidate(way)
                chosen = self._finished(fitting, self._steps(fitting, seconds, tokens), seconds)
                if memory is None or planned_peak_bytes(chosen.config) <= memory:  # now with dropout, which needs some
                    return chosen
        least = min(
            planned_peak_bytes(way) for one in candidates for way in _ways(one.config, self._given.get("train", {}))
        )
        raise TinyslmError(
            f"No model that could be planned trains in {size(memory or 0)} of memory.",
            f"Allow more: {size(least)} is the least.",
        )

    def _steps(self, one: Candidate, seconds: float, tokens: int | None) -> int:
        """As many updates as the budget and the text allow."""
        most = MOST_EPOCHS * self._survey.training_bytes / self._survey.bytes_in_token(one.config.model.vocab_size)
        limit = max(1, int(min(most, tokens or most) / one.tokens_per_update))
        return limit if math.isinf(seconds) else min(limit, one.steps(seconds))

    def _finished(self, one: Candidate, steps: int, seconds: float | None) -> Choice:
        """A candidate with learning rates and dropout for its steps. Where time alone ends it, it has no steps: they
        are counted when the run's own pace is known."""
        config = one.config
        found = conditions(self._survey, config.model, config.train.batch, steps)
        epochs, weights = found.tokens / found.unique_tokens, found.block_weights / found.unique_tokens
        suited = rates(config.model.dim, one.tokens_per_update, steps, epochs, weights)
        by_time = seconds is not None and not math.isinf(seconds) and steps == one.steps(seconds)
        length = {"minutes": round(seconds / 60, 6)} if by_time and seconds else {"steps": steps}
        settings = merge(_shape(config), merge(suited, {"train": length}))
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
        """Every combination of the axes that makes a model."""
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
                "The settings leave no model that could be planned.", "Fix fewer of them, or train without a plan."
            )

    def _vocabularies(self) -> list[int]:
        """The one there is, or the one that was asked for, or all that the text supports and the law knows of."""
        if len(self._survey.bytes_per_token) == 1:
            return list(self._survey.bytes_per_token)
        tokenizer = self._base.tokenizer
        if "tokenizer" in self._given and (tokenizer.kind == "byte" or tokenizer.vocab_size):
            return [BYTE_VOCABULARY if tokenizer.kind == "byte" else round_up(tokenizer.vocab_size)]
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
        """The candidates that have about so many parameters, or come nearest."""
        if parameters is None:
            return self._candidates

        def off(one: Candidate) -> float:
            return abs(math.log(one.config.model.parameters / parameters))

        nearest = min(map(off, self._candidates))
        if nearest > 2 * PARAMETERS_WITHIN:
            found = sorted(one.config.model.parameters for one in self._candidates)
            raise TinyslmError(
                f"No model of about {count(parameters)} parameters could be planned.",
                f"Those that could have {count(found[0])} to {count(found[-1])}; give the shape itself for another "
                "(--model.dim, --model.depth).",
            )
        within = max(nearest, math.log1p(PARAMETERS_WITHIN))
        return [one for one in self._candidates if off(one) <= within]


def _with_steps(candidates: Sequence[Candidate], steps: Callable[[Candidate], int]) -> Sequence[Candidate]:
    """The candidates that make enough updates, or the one that makes most of them."""
    return [one for one in candidates if steps(one) >= FEWEST_STEPS] or [max(candidates, key=steps)]


def tokenizer_settings(vocab_size: int) -> dict[str, Any]:
    """Settings of a tokenizer with so many tokens."""
    if vocab_size == BYTE_VOCABULARY:
        return {"kind": "byte"}
    return {"kind": "bpe", "vocab_size": vocab_size}


def _typed(base: RunConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings with the values that they have in `base`, where texts have become numbers."""
    values = base.model_dump()
    return {name: {key: values[name][key] for key in section} for name, section in given.items()}


def _shape(config: RunConfig) -> dict[str, Any]:
    """What was searched for, as settings."""
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
    """Ways to compute one and the same update, from the fastest to the one that needs the least memory."""
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
