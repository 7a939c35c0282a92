"""From text and settings to a started run, and from a started run to its result and report."""

import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.files import DiskError, write_json
from tinyslm.data.documents import Notify, Progress, silent
from tinyslm.data.prepare import prepare
from tinyslm.data.shards import Shards, given_shards
from tinyslm.data.text import Text
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.model.folder import find_model, load_tokenizer, read_model_config
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training import report
from tinyslm.training.compiling import check_compiling
from tinyslm.training.config import RunConfig
from tinyslm.training.deadline import Rates
from tinyslm.training.interrupt import ignore_termination
from tinyslm.training.metrics import MetricsLog
from tinyslm.training.run import Event, Run
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.sinks import SINKS, open_sinks
from tinyslm.training.stages import STAGES
from tinyslm.training.world import LostProcess, resuming


@dataclass(frozen=True)
class Watch:
    """How a caller follows the work; every part may be left out.

    notify: gets warnings. progress: gets `(label, bytes done, bytes in all or 0)` while text is read. event: gets every
    event of the run as it happens, and before it "planning", "plan" (with the `Plan`), "preparing" and "prepared" (with
    the data's manifest). began: when the work began by `time.monotonic`, if before the call.
    """

    notify: Notify = silent
    progress: Progress = silent
    event: Callable[[Event], None] = silent
    began: float | None = None


def start(
    source: Sequence[str | Path] | Text,
    out: str | Path,
    config: RunConfig,
    *,
    tokenizer: Tokenizer | None = None,
    rates: Rates | None = None,
    spent: float = 0.0,
    watch: Watch | None = None,
) -> Run:
    """Prepare the data and begin a run in `out`, ready to train. source: paths, text that was read, or a shards folder.

    Where the settings give minutes, the preparation counts, and so do seconds that the caller has `spent` before.
    rates: how fast this machine is, from a plan. Raises `TinyslmError` if the text or the settings cannot be used, or
    `out` is in use.
    """
    watch = watch or Watch()
    begun = time.monotonic() - spent
    folder = RunFolder(Path(out))
    check_config(folder.path, config)
    with folder.lock:
        folder.check_unused()
        if config.train.start_from and tokenizer is None:
            tokenizer = load_tokenizer(find_model(Path(config.train.start_from)))
        shards = prepare_shards(source, folder, config, tokenizer, watch)
        return Run.start(folder, shards.folder, config, rates=rates, spent=time.monotonic() - begun)


def prepare_shards(
    source: Sequence[str | Path] | Text, folder: RunFolder, config: RunConfig, tokenizer: Tokenizer | None, watch: Watch
) -> Shards:
    """The text of a run as shards: those that it is given, or new ones in its folder."""
    if not isinstance(source, Text) and (given := given_shards(source)):
        if tokenizer is not None and not config.train.start_from:
            raise TinyslmError(
                f"{source[0]} holds shards, which bring their own tokenizer.", "Leave the tokenizer out."
            )
        shards = Shards.open(given)
        if shards.cache and (warning := shards.cache.warning):
            watch.notify(warning)
    else:
        shards = prepare(
            source if isinstance(source, Text) else [str(path) for path in source],
            folder.data,
            tokenizer=tokenizer or config.tokenizer,
            config=config.data,
            notify=watch.notify,
            progress=watch.progress,
        )
    watch.event({"event": "prepared", "manifest": shards.manifest})
    return shards


def check_config(out: Path, config: RunConfig) -> None:
    """Raise `TinyslmError`, before anything is read or written, where a run could not begin."""
    RunFolder(out).check_unused()
    STAGES[config.train.stage]  # raises if there is none of that name
    for folder in filter(None, (config.train.start_from, config.train.teacher)):
        read_model_config(find_model(Path(folder)))
    for name in config.train.sinks:
        SINKS[name]
        if find_spec(name) is None:
            raise require_extra("tracking", f'The sink "{name}"')
    pick_dtype(pick_device(config.train.device), config.train.dtype)
    check_compiling(config)


def finish(
    run: Run, watch: Callable[[Event], None] = silent, further: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Train to the end and write the report; returns the result. further: fields to add to it.

    Raises `TinyslmError`, whose remedy is the command that resumes the run, if the disk is full or cannot be written,
    and `LostProcess` if another process of the run has ended.
    """
    result: dict[str, Any] = {}
    try:
        with run.folder.lock, closing(logged(run)) as events:
            for event in events:
                watch(event)
                result = event.get("result", result)
            result = {**result, **(further or {})}
            if run.world.leads:
                write_json(run.folder.result_file, result)
                draw_report(run.folder.path)
    except DiskError as error:
        remedy = f"Free some space there, or make it writable; then resume: tinyslm train --resume {run.folder.path}"
        raise TinyslmError(error.problem, remedy) from error
    except LostProcess as error:
        ignore_termination()
        raise LostProcess(error.problem, resuming(run.folder.path)) from error
    return result


def logged(run: Run) -> Generator[Event]:
    """The run's events, each also written to `metrics.jsonl` and to the sinks that the settings name."""
    path = run.folder.path
    logs = [MetricsLog(run.folder.metrics_file), *open_sinks(run.config.train.sinks, path)] if run.world.leads else []
    try:
        for event in run.events():
            for log in logs:
                log.write(event)
            yield event
    finally:
        for log in logs:
            log.close()


def draw_report(run: Path) -> None:
    """Write a run folder's report in a process of its own: drawing takes memory that training should not hold.

    Raises `DiskError` if the folder cannot be written.
    """
    command = [sys.executable, "-m", report.__name__, str(run)]
    done = subprocess.run(  # noqa: S603 - this program itself
        command, capture_output=True, text=True, check=False, start_new_session=True
    )
    if done.returncode == report.DISK_FAILED:
        raise DiskError(done.stderr.strip(), "")
    if done.returncode:
        raise RuntimeError(f"The report could not be drawn: {done.stderr}")
