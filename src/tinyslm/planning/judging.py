"""Measure a model before and after fine-tuning, and judge the change.

The run folder stores the measurement before the run in `before.json`, so that a resumed run ends with the same verdict,
and the one after it in `after.json`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tinyslm.core.files import write_json
from tinyslm.core.json_files import read_json
from tinyslm.evaluation.general_text import shipped_texts, text_bits, texts_of
from tinyslm.evaluation.graders import find_grader
from tinyslm.evaluation.verdict import Answered, NoiseFloor, Outcome, judge
from tinyslm.hardware.allocator import return_freed_memory
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.inference.engine import Engine
from tinyslm.inference.request import Request
from tinyslm.inference.runners import make_runner
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.rollouts import grade_all
from tinyslm.training.run import Run
from tinyslm.training.stage import PER_EXAMPLE, Asking, Batch, Batches, Question, Stage, result_of
from tinyslm.training.verdict_section import AFTER_FILE, BEFORE_FILE

SHOWN = 3
"""Number of questions to answer for display if there is no grader."""
TOGETHER = 16
"""Number of questions that the engine answers at the same time."""
LONGEST_ANSWER = 256
LARGEST_FILE = 1 << 28
Check = Callable[[], None]


@dataclass(frozen=True)
class Measurement:
    """The extent of a measurement, equal before and after: held-out tokens, general texts, and held-out questions.

    answered: the number of questions to answer, from the first on; `None`: as many as there is time for.
    """

    tokens: int
    texts: list[str]
    questions: int
    answered: int | None = None

    @classmethod
    def of(cls, config: RunConfig) -> Measurement:
        """The measurement that the settings request. Raises `TinyslmError` for unusable text or an unusable grader."""
        verdict, train = config.verdict, config.train
        texts = texts_of(verdict.general) if verdict.general else shipped_texts()
        if train.grader:
            find_grader(train.grader)
        return cls(train.score_tokens, texts, verdict.questions if train.grader else SHOWN)

    def take(self, model: Decoder, stage: Stage, config: RunConfig, check: Check, seconds: float = math.inf) -> Outcome:
        """Measure a model. seconds: the time for answers if `answered` is `None`."""
        dtype = pick_dtype(pick_device(config.train.device), config.train.dtype)
        score = stage.score(model, self.tokens, check)
        bits, sizes = text_bits(model, stage.tokenizer, self.texts, dtype, check)
        return_freed_memory()  # the engine needs larger blocks
        return Outcome(
            score=result_of(score),
            **score.get(PER_EXAMPLE, {}),
            bits=bits.tolist(),
            sizes=sizes.tolist(),
            answers=self._answers(
                Engine(model, stage.tokenizer, runner=partial(make_runner, dtype=dtype)),
                stage,
                config.train.grader,
                check,
                seconds,
            )
            if isinstance(stage, Asking)
            else [],
        )

    def _answers(self, engine: Engine, stage: Asking, grader_name: str, check: Check, seconds: float) -> list[Answered]:
        grader = find_grader(grader_name) if grader_name else None
        asked = stage.questions(self.questions)[: self.answered]
        try:
            answers = _answered(engine, asked, seconds if self.answered is None else math.inf, check)
        finally:
            engine.close()
            return_freed_memory()  # of its weights and cache
        asked = asked[: len(answers)]
        rows = ((one.row, answer) for one, answer in zip(asked, answers, strict=True))
        scores = [grade.score for grade in grade_all(grader, rows)] if grader else [None] * len(asked)
        return [
            Answered(one.text, one.reference, answer, score)
            for one, answer, score in zip(asked, answers, scores, strict=True)
        ]


def _answered(engine: Engine, asked: Sequence[Question], seconds: float, check: Check) -> list[str]:
    """Generate greedy answers to the questions in order, until the time is over, but at least to the first few."""
    end = time.monotonic() + seconds
    longest = max((len(engine.tokenizer.encode(one.reference)) for one in asked), default=0)
    limit = min(LONGEST_ANSWER, 16 + 5 * longest // 4)
    answers: list[str] = []
    for start in range(0, len(asked), TOGETHER):
        check()
        if answers and time.monotonic() > end:
            break
        under_way = [
            engine.submit(Request(one.prompt, _greedy(engine.context, one, limit), continues=False))
            for one in asked[start : start + TOGETHER]
        ]
        answers += [generation.whole()[0].text for generation in under_way]
    return answers


def _greedy(context: int, question: Question, limit: int) -> SamplingSettings:
    room = max(1, min(question.max_tokens or limit, context - len(question.prompt) - 1))
    return SamplingSettings(max_tokens=room, temperature=0.0)


@dataclass(frozen=True)
class Before:
    """The content of `before.json`."""

    measurement: Measurement
    outcome: Outcome

    @classmethod
    def take(
        cls,
        measurement: Measurement,
        model: Decoder,
        stage: Stage,
        config: RunConfig,
        check: Check = lambda: None,
        seconds: float = math.inf,
    ) -> Before:
        """Measure a base. seconds: the time for answers."""
        outcome = measurement.take(model, stage, config, check, seconds)
        return cls(replace(measurement, answered=len(outcome.answers)), outcome)

    @classmethod
    def read(cls, run: Path) -> Before | None:
        """Read the measurement of a run folder, if it has one."""
        file = run / BEFORE_FILE
        return read_json(file, cls, limit=LARGEST_FILE) if file.is_file() else None

    def write(self, run: Path) -> None:
        """Store the measurement in a run folder, atomically."""
        write_json(run / BEFORE_FILE, asdict(self))


class Judged:
    """A `Stage` whose final score includes the verdict on the run. The other methods delegate to the wrapped stage."""

    def __init__(self, stage: Stage, before: Before, config: RunConfig, folder: Path) -> None:
        self._stage, self._before, self._config, self._folder = stage, before, config, folder

    @property
    def tokenizer(self) -> Tokenizer:
        return self._stage.tokenizer

    @property
    def batches(self) -> Batches:
        return self._stage.batches

    @property
    def held_out_tokens(self) -> int:
        return self._stage.held_out_tokens

    def loss(self, model: Decoder, batch: Batch) -> tuple[torch.Tensor, float, Mapping[str, float]]:
        return self._stage.loss(model, batch)

    def validate(self, model: Decoder, dtype: torch.dtype, tokens: int) -> float:
        return self._stage.validate(model, dtype, tokens)

    def in_units(self, loss: float, *, held_out: bool) -> Mapping[str, float]:
        return self._stage.in_units(loss, held_out=held_out)

    def warnings(self, metrics: Mapping[str, float]) -> Sequence[str]:
        return self._stage.warnings(metrics)

    def sample(self, model: Decoder, seed: int) -> str:
        return self._stage.sample(model, seed)

    def score(self, model: Decoder, tokens: int, check: Check) -> Mapping[str, Any]:  # noqa: ARG002
        """The stage's score on the tokens scored before the run, that of the base in `before`, and the `verdict`."""
        after = self._before.measurement.take(model, self._stage, self._config, check)
        write_json(self._folder / AFTER_FILE, asdict(after))
        before = self._before.outcome
        replay = self._config.replay.share if self._config.train.stage == "sft" else None
        verdict = judge(before, after, NoiseFloor.shipped(), replay=replay)
        return {**after.score, "before": before.score, "verdict": verdict.as_result()}


def read_outcomes(run: Path) -> tuple[Outcome, Outcome] | None:
    """The measurements of a run folder before and after the run, if it has both."""
    before = Before.read(run)
    if before is None or not (run / AFTER_FILE).is_file():
        return None
    return before.outcome, read_json(run / AFTER_FILE, Outcome, limit=LARGEST_FILE)


def judged(run: Run) -> Run:
    """Let a run end with a verdict, if its folder has a measurement of the base."""
    if before := Before.read(run.folder.path):
        run.stage = Judged(run.stage, before, run.config, run.folder.path)
    return run
