"""How a training run looks in the terminal: a progress bar, validations and samples above it."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyslm.cli.telling import tell
from tinyslm.core.console import say, training_progress, warn
from tinyslm.core.printable import one_line
from tinyslm.core.quantities import count, duration
from tinyslm.training.interrupt import Interrupted
from tinyslm.training.run import Event, Run

WORTH_TELLING = 0.03
"""Corrections of the number of steps by a larger share are shown."""


@contextmanager
def stopping(folder: Path, *, json: bool = False) -> Iterator[None]:
    """Say how to go on when the run in `folder` is asked to stop within the block, and leave with exit code 130."""
    try:
        yield
    except Interrupted as stopped:
        if json:
            tell({"run": folder, "stopped_after_step": stopped.step})
            sys.exit(130)
        say(f"Stopped after step {stopped.step:,}; everything is saved. Go on with:")
        say(f"  {command()} train --resume {folder}")
        sys.exit(130)


def command() -> str:
    """How to call this program from where the user is: by its name, or by its path where it is not on PATH."""
    return "tinyslm" if shutil.which("tinyslm") else sys.argv[0]


def warning(event: Event) -> None:
    """Show of a run's events only those that its user must know, on standard error."""
    match event["event"]:
        case "warning":
            warn(event["text"])
        case "skipped":
            warn(f"step {event['step']:,} did not change the weights: {event['reason']}.")


@contextmanager
def watching(run: Run) -> Iterator[Callable[[Event], None]]:
    """Show a run's events while the block runs; gives the function to tell them to."""
    steps, budget = run.steps, 60 * (run.config.train.minutes or 0)
    say(
        f"Training {count(run.config.model.parameters)} parameters for {'about ' if budget else ''}{steps:,} steps "
        f"on {run.device.type} in {str(run.dtype).removeprefix('torch.')}."
    )
    begun, first = time.monotonic(), run.progress.step
    with training_progress(steps) as progress:

        def show(event: Event) -> None:
            step = event.get("step", 0)
            ahead = (time.monotonic() - begun) / max(1, step - first) * (run.steps - step)
            match event["event"]:
                case "step":
                    progress.update(
                        step,
                        loss=event["loss"],
                        bits_per_byte=event["bits_per_byte"],
                        tokens_per_second=event["tokens_per_second"],
                        seconds_left=budget - run.seconds if budget else ahead,
                        total_steps=run.steps,
                    )
                case "pace" if abs(event["steps"] / event["before"] - 1) > WORTH_TELLING:
                    progress.note(
                        f"step {step:,}: {event['steps']:,} steps in all instead of {event['before']:,}, to end on time"
                    )
                case "validation":
                    progress.note(
                        f"step {step:,}: validation loss {event['loss']:.4f}, "
                        f"{event['bits_per_byte']:.4f} bits per byte, after {duration(event['seconds'])}"
                    )
                case "sample":
                    progress.note(f"step {step:,}: sample: {one_line(event['text'], 160)}")
                case "scoring":
                    progress.note(f"step {step:,}: scoring the best weights (of step {event['best']:,})")
                case _:
                    warning(event)

        yield show
