"""How a training run looks in the terminal: its plan and data, then a progress bar with validations above it."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tinyslm.cli.planning import describe_data, describe_plan
from tinyslm.cli.telling import tell
from tinyslm.core.console import TrainingProgress, say, table, training_progress, warn, work_progress
from tinyslm.core.printable import one_line
from tinyslm.core.quantities import count, counted, duration, size
from tinyslm.training.interrupt import Interrupted
from tinyslm.training.pipeline import Watch
from tinyslm.training.run import Event

WORK = {
    "planning": "Planning",
    "preparing": "Preparing the text",
    "comparing": "\nComparing with what needs no model",
}
SAID = {
    "measuring": "Measuring the model before training ...",
    "chapter": "Writing the chapter {title} ...",
    "sampling": "Sampled answers to {done:,} of {prompts:,} prompts.",
}
LARGE_CORRECTION = 0.03
"""Corrections of the number of steps by a larger share are shown."""


@contextmanager
def stopping(folder: Path, *, json: bool = False) -> Iterator[None]:
    """Say how to resume when the run in `folder` is stopped within the block, and exit with code 130."""
    try:
        yield
    except Interrupted as stopped:
        if json:
            tell({"run": folder, "stopped_after_step": stopped.step})
            sys.exit(130)
        say(f"Stopped after step {stopped.step:,}; everything is saved. Resume with:")
        say(f"  {command()} train --resume {folder}")
        sys.exit(130)


def command() -> str:
    """How to call this program from where the user is: by its name, or as it was called where it is not on PATH."""
    if shutil.which("tinyslm"):
        return "tinyslm"
    return f"{sys.executable} -m tinyslm" if Path(sys.argv[0]).name == "__main__.py" else sys.argv[0]


def warning(event: Event) -> None:
    """Show of a run's events only those that its user must know, on standard error."""
    match event["event"]:
        case "warning":
            warn(event["text"])
        case "skipped":
            warn(f"step {event['step']:,} did not change the weights: {event['reason']}.")


@contextmanager
def watching(began: float, *, json: bool = False, run: Path | None = None) -> Iterator[Watch]:
    """Show the planning, preparing and training of a run while the block runs; with `json` only its warnings.

    began: when the program began, by `time.monotonic`. run: the run folder, to name it once its training starts.
    """
    if json:
        yield Watch(notify=warn, event=warning, began=began)
        return
    with ExitStack() as stack:
        shown = _Shown(stack, run)
        yield Watch(notify=warn, progress=shown.progress, event=shown.event, began=began)


class _Shown:
    """The display of one run, from the first event to the last. `stack` closes what is on the screen."""

    def __init__(self, stack: ExitStack, run: Path | None) -> None:
        self._stack, self._run = stack, run
        self._work: Callable[[str, int, int], None] | None = None
        self._training: TrainingProgress | None = None
        self._steps = self._first = 0
        self._began = 0.0
        self._ends: float | None = None  # by the monotonic clock, where the run has a time

    def progress(self, label: str, done: int, total: int) -> None:
        """Text that is read or encoded."""
        if self._work is not None:
            self._work(label, done, total)

    def event(self, event: Event) -> None:
        """Show what one event says."""
        match event["event"]:
            case "planning" | "preparing" | "comparing" as work:
                unit = "{:,.0f}".format if work == "comparing" else size
                self._work = self._stack.enter_context(work_progress(WORK[work], unit))
            case "plan" | "prepared" as done:
                self._stack.close()
                say(describe_plan(event["plan"]) if done == "plan" else describe_data(event["manifest"]))
            case "start":
                self._start(event)
            case "step":
                self._step(event)
            case "pace":
                self._steps = event["steps"]
                if abs(event["steps"] / event["before"] - 1) > LARGE_CORRECTION:
                    self._note(event)
            case "validation" | "sample" | "scoring":
                self._note(event)
            case "end":
                self._stack.close()
            case "finished":
                say(f"The run in {event['path']} has finished: its model is {event['model']}.")
            case "planned":
                self._stack.close()
                table(event["plan"].lines())
            case "measuring" | "sampling" | "chapter" as work:
                say(SAID[work].format(**event))
            case _:
                warning(event)

    def _start(self, event: Event) -> None:
        self._steps, self._first, self._began = event["steps"], event["resumed_from"], time.monotonic()
        if event["minutes"]:
            self._ends = self._began + 60 * event["minutes"] - event["seconds"]
        if self._run is not None:
            say(f"Run folder: {self._run}")
        if self._first:
            say(f"Resuming after step {self._first:,} of {self._steps:,}.")
        say(
            f"Training {count(event['parameters'])} parameters for {'about ' if event['minutes'] else ''}"
            f"{counted(self._steps, 'step')} on {event['device']} in {event['dtype']}"
            f"{', in {} processes'.format(event['processes']) if event['processes'] > 1 else ''}."
        )
        if event["processes"] > 1:
            divided = "divided over the processes" if event["sharding"]["on"] else "whole in every process"
            say(f"Weights are {divided}: {event['sharding']['reason']}.")
        self._stack.close()  # bars of the work before would be drawn over
        self._work, self._training = None, self._stack.enter_context(training_progress(self._steps))

    def _step(self, event: Event) -> None:
        assert self._training is not None, "the first event is the start"
        now, step = time.monotonic(), event["step"]
        ahead = (now - self._began) / max(1, step - self._first) * (self._steps - step)
        self._training.update(
            step,
            loss=None if "reward" in event else event["loss"],
            reward=event.get("reward"),
            bits_per_byte=event.get("bits_per_byte"),
            tokens_per_second=event["tokens_per_second"],
            seconds_left=None if step == self._steps else ahead if self._ends is None else self._ends - now,
            total_steps=self._steps,
        )

    def _note(self, event: Event) -> None:
        assert self._training is not None, "the first event is the start"
        self._training.note(f"step {event['step']:,}: {describe_event(event)}")


def describe_event(event: Event) -> str:
    """A correction of the steps, a validation, a sample, or the scoring of a run in words."""
    match event["event"]:
        case "pace":
            return f"{counted(event['steps'], 'step')} in all instead of {event['before']:,}, to end on time"
        case "validation":
            if "reward" in event:
                return f"held-out reward {event['reward']:.3f}, after {duration(event['seconds'])}"
            bits = f", {event['bits_per_byte']:.4f} bits per byte" if "bits_per_byte" in event else ""
            return f"validation loss {event['loss']:.4f}{bits}, after {duration(event['seconds'])}"
        case "sample":
            return f"sample: {one_line(event['text'], 160)}"
        case _:
            return f"scoring the best weights (of step {event['best']:,})"
