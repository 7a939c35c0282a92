"""The main job in one call: from text (or shards) to a trained and scored model folder."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.files import DiskError, write_json
from tinyslm.data.documents import Notify, Progress, silent
from tinyslm.data.prepare import prepare
from tinyslm.data.shards import Shards, is_shards
from tinyslm.data.text import Text
from tinyslm.hardware.allocator import return_freed_memory
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.compiling import refuse_impossible_compiling
from tinyslm.training.config import RunConfig
from tinyslm.training.ending import finished_result
from tinyslm.training.metrics import MetricsLog
from tinyslm.training.planning.plan import planned_beside
from tinyslm.training.report import write_report
from tinyslm.training.run import Event, Run
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.sinks import SINKS, open_sinks


def train(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    config: RunConfig | None = None,
    tokenizer: Tokenizer | None = None,
    notify: Notify = silent,
    progress: Progress = silent,
    watch: Callable[[Event], None] = silent,
) -> dict[str, Any]:
    """Train a model on the text in `paths` (or on one shards folder), into the run folder `out`; returns the result.

    The result holds the score on the validation documents (`bits_per_byte`, `loss`, ...); the model folder is
    `out/model`, the report `out/report.html`. `watch` is told every event of the run as it happens.
    """
    run = start(paths, out, config=config, tokenizer=tokenizer, notify=notify, progress=progress)
    return finish(run, watch)


def resume(
    out: str | Path,
    *,
    config: RunConfig | None = None,
    notify: Notify = silent,
    watch: Callable[[Event], None] = silent,
) -> dict[str, Any]:
    """Go on with the run in `out` as if it had never stopped; returns the result (at once if it had ended)."""
    out = Path(out)
    if (result := finished_result(out)) is not None:
        notify(f"The run in {out} has already finished.")
        return result
    return finish(Run.resume(out, config, notify), watch)


def start(
    source: Sequence[str | Path] | Text,
    out: str | Path,
    *,
    config: RunConfig | None = None,
    tokenizer: Tokenizer | None = None,
    notify: Notify = silent,
    progress: Progress = silent,
    spent: float = 0.0,
) -> Run:
    """Prepare the data and begin a run in `out`, ready to train. source: paths, text that was read, or a shards folder.

    Where the settings give minutes, the preparation counts, and so do seconds that the caller has `spent` before.
    """
    begun = time.monotonic() - spent
    config = config or RunConfig()
    folder = RunFolder(Path(out))
    refuse_impossible(folder.path, config)
    with folder.lock:
        folder.refuse_if_used()
        if not isinstance(source, Text) and len(source) == 1 and is_shards(Path(source[0])):
            if tokenizer is not None:
                raise TinyslmError(
                    f"{source[0]} holds shards, which bring their own tokenizer.", "Leave the tokenizer out."
                )
            shards = Shards.open(Path(source[0]))
        else:
            shards = prepare(
                source if isinstance(source, Text) else [str(path) for path in source],
                folder.shards,
                tokenizer=tokenizer or config.tokenizer,
                config=config.data,
                notify=notify,
                progress=progress,
            )
        return Run.start(folder, shards, config, spent=time.monotonic() - begun)


def refuse_impossible(out: Path, config: RunConfig) -> None:
    """Raise `TinyslmError`, before anything is read or written, where a run could not begin."""
    RunFolder(out).refuse_if_used()
    for name in config.train.sinks:
        SINKS[name]  # raises when there is none of that name
        if find_spec(name) is None:
            raise require_extra("tracking", f'The sink "{name}"')
    pick_dtype(pick_device(config.train.device), config.train.dtype)
    refuse_impossible_compiling(config)


def finish(run: Run, watch: Callable[[Event], None] = silent) -> dict[str, Any]:
    """Train to the end and write the report; returns the result.

    Raises `TinyslmError`, whose remedy is the command that resumes the run, if the disk is full or cannot be written.
    """
    result: dict[str, Any] = {}
    try:
        with run.folder.lock, closing(logged(run)) as events:
            for event in events:
                watch(event)
                result = event.get("result", result)
            result = _beside_plan(run.folder, result)
            return_freed_memory()  # what draws the report's plots allocates by itself
            write_report(run.folder.path)
    except DiskError as error:
        remedy = f"Free some space there, or make it writable; then resume: tinyslm train --resume {run.folder.path}"
        raise TinyslmError(error.problem, remedy) from error
    return result


def _beside_plan(folder: RunFolder, result: dict[str, Any]) -> dict[str, Any]:
    """The result with what was expected of the run, where it was planned; in its file too."""
    for plan in planned_beside(folder.path):
        names = {"bits_per_byte", "low", "high", "seconds"}
        result = {**result, "planned": plan.expectation.model_dump(include=names)}
        write_json(folder.result_file, result)
    return result


def logged(run: Run) -> Generator[Event]:
    """The run's events, each also written to `metrics.jsonl` and to the sinks that the settings name."""
    path = run.folder.path
    logs = [MetricsLog(run.folder.metrics_file), *open_sinks(run.config.train.sinks, path)]
    try:
        for event in run.events():
            for log in logs:
                log.write(event)
            yield event
    finally:
        for log in logs:
            log.close()
