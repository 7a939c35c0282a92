"""What the user sees in the terminal: lines, warnings, errors, tables and progress.

On a terminal, progress is a live bar. Everywhere else (a pipe, a file, CI, a dumb terminal) it is a plain line every
ten seconds and a last one. Text that is shown is data: control characters in it are spelled out, and no markup is read.
`rich` is imported only where something is drawn with it.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from tinyslm.core.printable import printable
from tinyslm.core.quantities import duration, size

if TYPE_CHECKING:
    from rich.console import RenderableType

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_FRAMES = 0.1
WIDEST = 100
"""Columns of the progress display on a wide terminal."""


def say(text: str = "") -> None:
    """One line or several on standard output."""
    _write(sys.stdout, printable(text) + "\n")


def say_styled(parts: Sequence[tuple[str, str]]) -> None:
    """One line or several on standard output, in parts with a style each: a name in `STYLES`, or "" for none.

    Where no colours are shown, parts of the styles in `MARKS` are between these marks.
    """
    coloured = _shows_colours(sys.stdout)
    text = ""
    for part, style in parts:
        before, after = MARKS.get(style, ("", ""))
        if coloured and style:
            before, after = f"\x1b[{STYLES[style]}m", "\x1b[0m"
        text += f"{before}{printable(part)}{after}"
    _write(sys.stdout, text + "\n")


STYLES = {"error": "1;31", "warning": "1;33", "note": "1;36", "strong": "1;32", "faint": "2"}
"""ANSI codes of what can be shown in colour."""
MARKS = {"strong": ("⟦", "⟧")}


def stream(text: str) -> None:
    """A piece of a text on standard output, at once and without a line end; exactly as given unless on a terminal."""
    _write(sys.stdout, printable(text) if sys.stdout.isatty() else text)


def notice(text: str) -> None:
    """Something that was decided, on standard error; only where a person sees it: programs read what is there."""
    if sys.stderr.isatty():
        _write(sys.stderr, f"{printable(text)}\n")


def warn(text: str) -> None:
    """A warning on standard error."""
    _write(sys.stderr, f"{_coloured('warning:', 33, sys.stderr)} {printable(text)}\n")


def fail(problem: str, remedy: str) -> None:
    """The two parts of a `TinyslmError` on standard error, a line each."""
    _write(sys.stderr, f"{_coloured('error:', 31, sys.stderr)} {_line(problem)}\n{_line(remedy)}\n")


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Rows of cells in aligned columns on standard output; columns that hold only numbers are aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, show_header=bool(header), padding=(0, 2, 0, 0), header_style="bold")
    for index in range(len(rows[0]) if rows else len(header)):
        numeric = bool(rows) and all(row[index][:1].isdigit() for row in rows)
        title = Text(printable(header[index])) if header else ""
        drawn.add_column(title, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    # Where nobody sees the width (a pipe, a file), a row stays on its line.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
    with console.capture() as capture:
        console.print(drawn)
    _write(sys.stdout, "".join(line.rstrip() + "\n" for line in capture.get().splitlines()))


@contextmanager
def training_progress(total_steps: int) -> Iterator["TrainingProgress"]:
    """Show a training run of `total_steps` while the block runs."""
    with _display() as display:
        yield TrainingProgress(display, total_steps)


@contextmanager
def work_progress(title: str, unit: Callable[[float], str] = size) -> Iterator["WorkProgress"]:
    """Show work counted in bytes, or another unit, stage by stage, below `title` while the block runs."""
    say(title)
    with _display() as display:
        yield WorkProgress(display, unit)


@contextmanager
def row_progress(title: str) -> Iterator["RowProgress"]:
    """Show work counted in rows below `title` while the block runs. Gives the `RowProgress`."""
    say(title)
    with _display() as display:
        yield RowProgress(display)


class TrainingProgress:
    """Where a training run is: give `update` each step's figures, and `note` what should stay above the bar."""

    def __init__(self, display: "Display", total_steps: int) -> None:
        self._display = display
        self._total = total_steps

    def update(
        self,
        step: int,
        *,
        loss: float | None = None,
        reward: float | None = None,
        bits_per_byte: float | None = None,
        tokens_per_second: float | None = None,
        seconds_left: float | None = None,
        total_steps: int | None = None,
    ) -> None:
        """Show that `step` steps are done. Loss is in nats per token; figures that are not known are left out.

        total_steps: of the whole run, where their number has changed.
        """
        self._total = total_steps or self._total
        figures = [f"step {step:,} of {self._total:,}"]
        if loss is not None:
            figures.append(f"loss {loss:.3f}")
        if reward is not None:
            figures.append(f"reward {reward:.3f}")
        if bits_per_byte is not None:
            figures.append(f"{bits_per_byte:.3f} bits per byte")
        if tokens_per_second is not None:
            figures.append(f"{tokens_per_second:,.0f} tokens/s")
        left = "" if seconds_left is None else f"{duration(max(0.0, seconds_left))} left"
        self._display.show("training", step / max(1, self._total), left, " · ".join(figures))

    def note(self, text: str) -> None:
        """Print text that stays, above the bar."""
        say(text)


class WorkProgress:
    """`progress(stage, done, total)`: bytes (or what `unit` shows) done of a stage; total: 0 if it is not known."""

    def __init__(
        self, display: "Display", unit: Callable[[float], str] = size, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._display = display
        self._unit = unit
        self._clock = clock
        self._started: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = self._clock()
        seconds = now - self._started.setdefault(stage, now)
        figures = []
        if done or total:
            figures.append(f"{self._unit(done)} of {self._unit(total)}" if done < total else self._unit(done))
        if done and seconds > 1:
            figures.append(f"{self._unit(done / seconds)}/s")
        self._display.show(stage, done / total if total else None, " · ".join(figures))


class RowProgress:
    """`progress(done, share)`: rows done, and the share of all that they are (`None` where it is not known)."""

    def __init__(self, display: "Display", clock: Callable[[], float] = time.monotonic) -> None:
        self._display = display
        self._clock = clock
        self._began: tuple[float, int, float] | None = None

    def __call__(self, done: int, share: float | None) -> None:
        now = self._clock()
        if self._began is None:  # what an earlier run has done says nothing about how fast this one is
            self._began = now, done, share or 0.0
        began, done_before, share_before = self._began
        figures = [f"{done:,} rows"]
        if (seconds := now - began) > 1 and done > done_before:
            figures.append(f"{(done - done_before) / seconds:,.1f} rows/s")
            if share is not None and share > share_before:
                figures.append(f"{duration(seconds * (1 - share) / (share - share_before))} left")
        self._display.show("rows", share, " · ".join(figures))


class Display(Protocol):
    """Shows the progress of named tasks: a share between 0 and 1 (None: unknown), and details on its line and below."""

    def show(self, task: str, share: float | None, details: str, below: str = "") -> None:
        """Show the newest state of a task."""

    def close(self) -> None:
        """Show the last state of every task, and stop."""


class Lines:
    """A `Display` for what is not a terminal: plain lines, one per task every ten seconds and its last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_at: dict[str, float] = {}
        self._waiting: dict[str, str] = {}

    def show(self, task: str, share: float | None, details: str, below: str = "") -> None:
        percent = "" if share is None else f"{min(1.0, share):.0%}"
        figures = "  ".join(part for part in (percent, below, details) if part)
        new = task not in self._said_at
        if new:
            self.close()
            self._said_at[task] = self._clock()
        self._waiting[task] = f"{task}  {figures}" if figures else task
        # A stage without figures has nothing more to tell later.
        if self._clock() - self._said_at[task] >= SECONDS_BETWEEN_LINES or (new and not figures):
            self._say(task)

    def close(self) -> None:
        for task in list(self._waiting):
            self._say(task)

    def _say(self, task: str) -> None:
        if line := self._waiting.pop(task, ""):
            self._said_at[task] = self._clock()
            say(line)


class Bars:
    """A `Display` for a terminal: a bar for each task, drawn in place below everything that is printed meanwhile."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._tasks: dict[str, tuple[float | None, str]] = {}
        self._below = ""
        self._drawn_at = 0.0
        self._console = Console(highlight=False)
        # No thread of its own: the processor belongs to the work that is being shown.
        self._live = Live(console=self._console, auto_refresh=False, get_renderable=self._frame)
        self._live.start()

    def show(self, task: str, share: float | None, details: str, below: str = "") -> None:
        if task not in self._tasks:
            self._finish_unmeasured()
        self._tasks[task] = (share, details)
        self._below = below
        if time.monotonic() - self._drawn_at >= SECONDS_BETWEEN_FRAMES:
            self._live.refresh()
            self._drawn_at = time.monotonic()

    def close(self) -> None:
        self._finish_unmeasured()
        self._live.stop()

    def _finish_unmeasured(self) -> None:
        """Tasks of unknown size are over when the next one begins."""
        self._tasks = {
            task: (1.0 if share is None else share, details) for task, (share, details) in self._tasks.items()
        }

    def _frame(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.width = min(WIDEST, self._console.width)
        for ratio in (None, 1, None, None):
            grid.add_column(no_wrap=True, ratio=ratio)
        for task, (share, details) in self._tasks.items():
            bar = ProgressBar(total=1.0, completed=share or 0.0, pulse=share is None, complete_style="cyan")
            percent = "" if share is None else f"{min(1.0, share):.0%}"
            grid.add_row(Text(printable(task)), bar, Text(percent, justify="right"), Text(printable(details)))
        return Group(grid, Text(self._below, style="dim", no_wrap=True, overflow="ellipsis")) if self._below else grid


@contextmanager
def _display() -> Iterator[Display]:
    display: Display = Bars() if _is_live() else Lines()
    try:
        yield display
    finally:
        display.close()


def _is_live() -> bool:
    """Whether standard output is a terminal on which lines can be redrawn, watched by a person."""
    if not sys.stdout.isatty() or os.environ.get("CI"):
        return False
    from rich.console import Console

    return Console().is_interactive


def _line(text: str) -> str:
    return printable(text).replace("\n", " ")


def _coloured(word: str, colour: int, file: TextIO) -> str:
    """`word` in an ANSI colour where `file` is a terminal that shows colours."""
    return f"\x1b[1;{colour}m{word}\x1b[0m" if _shows_colours(file) else word


def _shows_colours(file: TextIO) -> bool:
    """Whether `file` is a terminal, and not one without colours (https://no-color.org)."""
    return file.isatty() and not (os.environ.get("NO_COLOR") or os.environ.get("TERM") in {None, "dumb", "unknown"})


def _write(file: TextIO, text: str) -> None:
    """Write and flush; characters that the terminal's encoding lacks are spelled out instead of failing."""
    encoding = file.encoding or "utf-8"
    file.write(text.encode(encoding, "backslashreplace").decode(encoding))
    file.flush()
