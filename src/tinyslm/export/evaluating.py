"""Run tasks on model folders, run folders, GGUF files, ONNX folders, and endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from tinyslm.core.plugins import load_plugins
from tinyslm.evaluation.continuations import Reading
from tinyslm.evaluation.overlap import training_texts
from tinyslm.evaluation.running import Subject, TaskScore, run_task, with_overlap
from tinyslm.evaluation.runtimes.endpoint import Endpoint
from tinyslm.evaluation.runtimes.model_folder import ModelRuntime
from tinyslm.evaluation.settings import EvaluationSettings
from tinyslm.evaluation.tasks.loading import load_tasks
from tinyslm.evaluation.tasks.task import Task
from tinyslm.export.opening import FOLDER, examine, kind_of, reopened
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.hardware.limits import thread_count

ENDPOINT_ROOM = 1 << 20
"""Assumed context of an endpoint, in tokens: its real limit is unknown, and the server rejects longer prompts."""

Progress = Callable[[str, int, int], None]


def evaluate_tasks(
    model: str | Path,
    tasks: str | Sequence[str],
    *,
    settings: EvaluationSettings | None = None,
    training: Iterable[str] | None = None,
    progress: Progress = lambda *_: None,
) -> list[TaskScore]:
    """Score a model on tasks (see `load_tasks`).

    model: a model folder, run folder, GGUF file, ONNX folder, or the address of a server that speaks OpenAI's API,
    `http://HOST:PORT/v1#MODEL`. training: texts to check the overlap with; by default the training data of the model's
    run, if it is known.

    Raises `TinyslmError` for models and tasks that cannot be used.
    """
    settings = settings or EvaluationSettings()
    load_plugins(settings.plugin)
    loaded = load_tasks(tasks, limit=settings.limit or None)
    scores: list[TaskScore] = []
    with open_subject(model, settings) as subject:
        for task in loaded:

            def report(stage: str, done: int, total: int, name: str = task.name) -> None:
                progress(f"{name}: {stage}", done, total)

            scores.append(
                run_task(subject, task, seeds=settings.seeds, constrained=settings.constrained, progress=report)
            )
    return [score for score in check_overlap(model, loaded, scores, training) if score is not None]


def check_overlap(
    model: str | Path,
    tasks: Sequence[Task],
    scores: Sequence[TaskScore | None],
    training: Iterable[str] | None = None,
) -> Sequence[TaskScore | None]:
    """Add to the scores the overlap of the tasks with the model's training data, if that is known."""
    if training is None and not is_address(model):
        training = training_texts(Path(model))
    return scores if training is None else with_overlap(tasks, scores, training)


def is_address(model: str | Path) -> bool:
    """Whether a model is the address of an endpoint and not a path."""
    return str(model).startswith(("http://", "https://"))


@contextmanager
def open_subject(model: str | Path, settings: EvaluationSettings) -> Iterator[Subject]:
    """Open a model to run tasks on; closes it when the block ends. See `evaluate_tasks`."""
    if is_address(model):
        url, _, name = str(model).partition("#")
        endpoint = Endpoint(url, name)
        yield Subject(f"{url}#{endpoint.model}", endpoint, endpoint, Reading((), ENDPOINT_ROOM))
        return
    dtype, before = pick_dtype(pick_device("cpu"), settings.dtype), torch.get_num_threads()
    threads = thread_count(settings.threads)
    torch.set_num_threads(threads)
    try:
        with _open_local(Path(model), dtype, threads) as subject:
            yield subject if settings.bos == "on" else replace(subject, reading=replace(subject.reading, prefix=()))
    finally:
        torch.set_num_threads(before)


@contextmanager
def _open_local(path: Path, dtype: torch.dtype, threads: int) -> Iterator[Subject]:
    kind = kind_of(path)
    if kind == FOLDER:
        runtime = ModelRuntime.open(path, dtype)
        yield Subject(str(path), runtime, runtime, runtime.reading)
        return
    with reopened(path, kind, threads) as opened:
        stored = examine(path, kind)
        yield Subject(str(path), opened, opened, Reading(stored.begin, stored.context))
