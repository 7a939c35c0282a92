"""Answer rows of a pack with its baseline or with a model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tinyslm.core.console import notice
from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.answers import GenerationRequest
from tinyslm.evaluation.running import TaskScore, score_answers
from tinyslm.evaluation.runtimes.model_folder import ModelRuntime
from tinyslm.evaluation.tasks.loading import load_tasks
from tinyslm.inference.settings import SamplingSettings
from tinyslm.packs.pack import Answerer, Demonstration, Pack, Row, as_asked
from tinyslm.packs.rows import make_rows


def evaluate_baseline(pack: Pack, limit: int = 0) -> list[TaskScore]:
    """Score the pack's program without a model on the pack's tasks, after it has read the rows to learn from.

    limit: examples per task; 0: all. Raises `TinyslmError` for a pack without such a program.
    """
    if pack.baseline is None:
        raise TinyslmError(f"The pack {pack.name} has no baseline.", "Score a model: tinyslm packs evaluate PACK MODEL")
    answer = pack.baseline(make_rows(pack).train)
    scores = []
    for task in load_tasks(pack.tasks, limit=limit or None):
        begun = time.perf_counter()
        answers = answer([dict(example.row) for example in task.examples])
        scores.append(score_answers(task, answers, time.perf_counter() - begun))
    return scores


def model_answerer(pack: Pack, model: str | Path) -> Answerer:
    """A model that answers rows of a pack, following their constraints. Raises `TinyslmError` if it cannot be used."""
    runtime = ModelRuntime.open(Path(model), torch.bfloat16)

    def answer(rows: Sequence[Row]) -> list[str]:
        asked = [GenerationRequest(as_asked(row)["messages"], (), (), pack.constraint(row)) for row in rows]
        most = max(pack.skill(row["skill"]).max_tokens for row in rows)
        settings = SamplingSettings(temperature=0.0, max_tokens=most)
        found = runtime.answer_many(asked, runtime.reading, settings, lambda *_: None)
        return [one.text for one in found.completions]

    return answer


def run_demo(pack: Pack, file: Path, request: str, model: str | Path, out: Path | None) -> Demonstration:
    """Run the demo of a pack on a user's file. Raises `TinyslmError` for a pack without one, and as the demo does."""
    if pack.demo is None:
        raise TinyslmError(f"The pack {pack.name} has no demo.", "Those that have one: excel, prices, security.")
    opened: list[Any] = []  # the model, once a row needs it: a faulty file is reported before it is loaded

    def answer(rows: Sequence[Row]) -> list[str]:
        if not opened:
            notice(f"Loading {model} ...")
            opened.append(model_answerer(pack, model))
        answers: list[str] = opened[0](rows)
        return answers

    return pack.demo(file, request, answer, out)
