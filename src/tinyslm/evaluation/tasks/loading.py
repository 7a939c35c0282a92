"""Load tasks by name: published benchmarks, built-in sets, and users' own tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from tinyslm.core.config import Section, load_config
from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.core.registry import Registry
from tinyslm.evaluation.tasks.files import rows_of
from tinyslm.evaluation.tasks.generated import GENERATION, TOOL_CALLS
from tinyslm.evaluation.tasks.published import PUBLISHED
from tinyslm.evaluation.tasks.scored import BITS_PER_BYTE, CHOICE, LAST_WORD, PAIRS
from tinyslm.evaluation.tasks.shipped import SETS, SHIPPED
from tinyslm.evaluation.tasks.task import Kind, Row, Task
from tinyslm.evaluation.tasks.task_config import Rows, TaskConfig
from tinyslm.inference.settings import SamplingSettings

KINDS: Registry[Kind] = Registry("kind of task")
for _kind in (PAIRS, CHOICE, LAST_WORD, BITS_PER_BYTE, GENERATION, TOOL_CALLS):
    KINDS.add(_kind.name, _kind)

TASKS: Registry[TaskConfig] = Registry("task")
"""Every task that can be named: published benchmarks, built-in sets, and those of packs."""
SUITES: Registry[Sequence[str]] = Registry("suite of tasks")
"""Names that stand for several tasks."""
for _name, _config in {**SHIPPED, **PUBLISHED}.items():
    TASKS.add(_name, _config)


class TaskFile(Section):
    """A user's own task: a TOML file next to its data."""

    name: str = Field(default="", description="Name of the task; by default the file's name.")
    kind: str = Field(description="pairs, choice, last_word, bits_per_byte, generation or tool_calls.")
    data: str = Field(description="The file of examples, relative to this file: JSON lines, JSON or parquet.")
    prompt: str = Field(default="", description="Template of the prompt, with {fields} of the row.")
    choices: str = Field(default="choices", description="The field with the choices.")
    answer: str = Field(default="answer", description="The field with the right answer.")
    text: str = Field(default="text", description="The field with the text.")
    good: str = Field(default="good", description="The field with the sentence that should be more probable.")
    bad: str = Field(default="bad", description="The field with the other sentence.")
    grader: str = Field(default="exact", description="A grader's name, or FILE.py:FUNCTION next to this file.")
    metric: str = Field(default="", description="The primary metric; by default the kind's first.")
    chat: bool = Field(default=False, description="Send the prompt as a user message of a conversation.")
    max_tokens: int = Field(default=256, gt=0, description="Maximum number of tokens in an answer.")
    temperature: float = Field(default=0.0, ge=0, description="Sampling temperature; 0: greedy decoding.")
    stop: tuple[str, ...] = Field(default=(), description="Texts that end an answer.")


def load_tasks(names: str | Sequence[str], *, limit: int | None = None) -> list[Task]:
    """Load tasks by name: `NAME=FILE` (a benchmark in its published format), `FILE.toml` (a task of your own), or
    `NAME` (a built-in set, a benchmark from the hub, or a suite of several). A string may hold several names, separated
    by commas.

    limit: the maximum number of examples per task, spread evenly over its file. Raises `TinyslmError` for unknown
    names, and for files or rows that cannot be used.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    names = [name.strip() for one in wanted for name in one.split(",") if name.strip()]
    found = [_load(task, limit) for name in names for task in suite_of(name)]
    if not found:
        raise TinyslmError("No task was given.", f"For instance: --tasks {next(iter(TASKS))}")
    by_name: dict[str, int] = {}
    for task in found:
        by_name[task.name] = by_name.get(task.name, 0) + 1
    if twice := [name for name, count in by_name.items() if count > 1]:
        raise TinyslmError(f'Two tasks have the name "{twice[0]}".', "Give each task a different name.")
    return found


def suite_of(name: str) -> Sequence[str]:
    """The tasks that a name stands for: those of a suite, or the task itself."""
    return SUITES[name] if name in SUITES else (name,)  # noqa: SIM401  (a registry has no `get`)


def _load(name: str, limit: int | None) -> Task:
    if name.endswith(".toml"):
        return _own(Path(name), limit)
    task, equals, file = name.partition("=")
    if not equals and task not in TASKS and name.endswith((".jsonl", ".json", ".parquet")):
        raise TinyslmError(f"{name} is not a task.", f"Name its benchmark, as in blimp={name}, or write a TOML file.")
    config = TASKS[task]
    if equals:
        return make_task(task, config.rows(Path(file)), config, limit, source=file)
    if config.make is not None:
        return make_task(task, config.make(), config, limit, source="generated")
    if config.file:
        return make_task(task, config.rows(SETS / config.file), config, limit, source="shipped")
    if config.hub is None:
        raise TinyslmError(f"{task} is not on the hub.", f"Give its file: {task}=FILE")
    from tinyslm.evaluation.tasks.hub import download

    with download(task, config.hub) as path:
        return make_task(task, config.rows(path), config, limit, source=f"hub: {config.hub[0]}")


def make_task(name: str, rows: Rows, config: TaskConfig, limit: int | None, *, source: str) -> Task:
    """Make a task from rows. Raises `TinyslmError` for rows that cannot be used, and if no row is left."""
    chosen = _spread(list(rows), limit)
    examples = [config.kind.read(row, place, config.options) for place, row in chosen]
    kept = [one for one in examples if one is not None]
    if not kept:
        left_out = f" ({len(examples)} rows were skipped)" if examples else ""
        raise TinyslmError(f"The task {name} has no examples{left_out}.", f"Check its file: {source}")
    kind = config.kind
    metric = config.metric or kind.metrics[0]
    if not kind.generates and metric not in kind.metrics:
        raise TinyslmError(f'The task {name} has no metric "{metric}".', did_you_mean(metric, kind.metrics))
    task = Task(name, kind, kept, metric, dropped=len(examples) - len(kept), source=source)
    return replace(task, sampling=config.sampling) if config.sampling else task


def _own(path: Path, limit: int | None) -> Task:
    given = load_config(TaskFile, path)
    kind = KINDS[given.kind]
    options = given.model_dump(exclude={"name", "kind", "data", "metric", "max_tokens", "temperature", "stop"})
    options |= {"folder": str(path.parent)}
    if not given.prompt:
        del options["prompt"]
    sampling = SamplingSettings(max_tokens=given.max_tokens, temperature=given.temperature, stop=given.stop)
    config = TaskConfig(kind, options=options, metric=given.metric, sampling=sampling)
    data = path.parent / given.data
    return make_task(given.name or path.stem, rows_of(data), config, limit, source=str(data))


def _spread(rows: list[tuple[str, Row]], limit: int | None) -> list[tuple[str, Row]]:
    """At most `limit` rows, spread evenly over the file."""
    if limit is None or len(rows) <= limit:
        return rows
    return [rows[index * len(rows) // limit] for index in range(limit)]
