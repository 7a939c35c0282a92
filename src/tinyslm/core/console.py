"""Print lines, warnings, errors, tables and progress in the terminal.

On a terminal, progress is a live bar. Everywhere else (a pipe, a file, CI, a dumb terminal) it is a plain line every
ten seconds and a last one. Control characters in text are spelled out, and markup is not interpreted. `rich` is
imported inside the functions that draw with it.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Protocol, TextIO

from tinyslm.core.printable import folded, printable
from tinyslm.core.quantities import counted, duration, size

if TYPE_CHECKING:
    from rich.console import RenderableType

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_FRAMES = 0.1
WIDEST = 100
"""Maximum width of the progress display, in columns."""


def say(text: str = "") -> None:
    """Print one or more lines on standard output."""
    _write(sys.stdout, _fitting(printable(text), sys.stdout) + "\n")


def say_styled(parts: Sequence[tuple[str, str]]) -> None:
    """Print one or more lines on standard output, in parts with a style each: a name in `STYLES`, or "" for none.

    Without colours, the parts of a style in `MARKS` are enclosed in its marks.
    """
    coloured = _shows_colours(sys.stdout)
    text = ""
    for part, style in parts:
        before, after = MARKS.get(style, ("", ""))
        if coloured and style:
            before, after = f"\x1b[{STYLES[style]}m", "\x1b[0m"
        text += f"{before}{printable(part)}{after}"
    _write(sys.stdout, text + "\n")


PIECES = {
    "words": (153, 111),
    "digits": (223, 216),
    "spaces": (252, 247),
    "punctuation": (194, 151),
    "bytes": (225, 218),
    "special": (189, 183),
}
"""Two background colours, of 256, for neighbouring pieces of a text; their styles are called `digits 0`, `digits 1`."""
_SHADES = {f"{kind} {number}": shade for kind, shades in PIECES.items() for number, shade in enumerate(shades)}
STYLES = {
    **{"error": "1;31", "warning": "1;33", "note": "1;36", "strong": "1;32", "faint": "2"},
    **{style: f"38;5;16;48;5;{shade}" for style, shade in _SHADES.items()},
}
"""ANSI codes by style."""
MARKS = {"strong": ("⟦", "⟧"), **dict.fromkeys(_SHADES, ("", "|"))}


def stream(text: str) -> None:
    """Print a piece of text on standard output at once, without a line end; unchanged unless that is a terminal."""
    _write(sys.stdout, printable(text) if sys.stdout.isatty() else text)


def notice(text: str) -> None:
    """Report an automatic decision on standard error, if that is a terminal: programs may parse standard error."""
    if sys.stderr.isatty():
        _write(sys.stderr, f"{_fitting(printable(text), sys.stderr)}\n")


def warn(text: str) -> None:
    """Print a warning on standard error."""
    _mark("warning:", 33, printable(text))


def fail(problem: str, remedy: str) -> None:
    """Print the two parts of a `TinyslmError` on standard error, one line each."""
    _mark("error:", 31, f"{_line(problem)}\n{_line(remedy)}")


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Print rows of cells in aligned columns on standard output, columns of numbers aligned to the right."""
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
    # Rows are not wrapped in a pipe or file.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
    with console.capture() as capture:
        console.print(drawn)
    _write(sys.stdout, "".join(line.rstrip() + "\n" for line in capture.get().splitlines()))


@contextmanager
def training_progress(total_steps: int) -> Iterator["TrainingProgress"]:
    """Show the progress of a training run of `total_steps` while the block runs. Yields the `TrainingProgress`."""
    with _display() as display:
        yield TrainingProgress(display, total_steps)


@contextmanager
def work_progress(title: str, unit: Callable[[float], str] = size) -> Iterator["WorkProgress"]:
    """Show the progress of stages, in bytes or another unit, below `title`. Yields the `WorkProgress`."""
    say(title)
    with _display() as display:
        yield WorkProgress(display, unit)


@contextmanager
def row_progress(title: str) -> Iterator["RowProgress"]:
    """Show the progress of work on rows below `title` while the block runs. Yields the `RowProgress`."""
    say(title)
    with _display() as display:
        yield RowProgress(display)


class TrainingProgress:
    """Shows the progress of a training run."""

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
        """Show that `step` steps are done. Loss is in nats per token; unknown figures are None.

        total_steps: the new number of steps of the run, if it has changed.
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
        """Print text above the bar."""
        say(text)


class WorkProgress:
    """Shows the progress of stages: `progress(stage, done, total)`, in bytes or another unit; total 0: unknown."""

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
    """Shows the progress of work on rows: `progress(rows done, share of all rows)`; share None: unknown."""

    def __init__(self, display: "Display", clock: Callable[[], float] = time.monotonic) -> None:
        self._display = display
        self._clock = clock
        self._began: tuple[float, int, float] | None = None

    def __call__(self, done: int, share: float | None) -> None:
        now = self._clock()
        if self._began is None:  # rows done by an earlier run do not count for the speed
            self._began = now, done, share or 0.0
        began, done_before, share_before = self._began
        figures = [counted(done, "row")]
        if (seconds := now - began) > 1 and done > done_before:
            figures.append(f"{(done - done_before) / seconds:,.1f} rows/s")
            if share is not None and share > share_before:
                figures.append(f"{duration(seconds * (1 - share) / (share - share_before))} left")
        self._display.show("rows", share, " · ".join(figures))


class Display(Protocol):
    """Shows the progress of named tasks: a share between 0 and 1 (None: unknown), and details on its line and below."""

    def show(self, task: str, share: float | None, details: str, below: str = "") -> None:
        """Update a task."""

    def close(self) -> None:
        """Show the last state of every task, and stop."""


class Lines:
    """A `Display` for pipes and files: for each task, a plain line every ten seconds and one at the end."""

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
        # A task without figures is printed at once: later lines would be the same.
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
    """A `Display` for a terminal: a bar for each task, redrawn in place below other output."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._tasks: dict[str, tuple[float | None, str]] = {}
        self._below = ""
        self._drawn_at = 0.0
        self._console = Console(highlight=False)
        # No refresh thread: it would take processor time from the work.
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
        """Mark the tasks of unknown size as complete: each ends when the next one begins."""
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
    """Whether standard output is an interactive terminal that can redraw lines, outside CI."""
    if not sys.stdout.isatty() or os.environ.get("CI"):
        return False
    from rich.console import Console

    return Console().is_interactive


def _line(text: str) -> str:
    return printable(text).replace("\n", " ")


def _mark(word: str, colour: int, text: str) -> None:
    """Print text on standard error behind a word in colour."""
    fitting = _fitting(f"{word} {text}", sys.stderr)
    _write(sys.stderr, f"{_coloured(word, colour, sys.stderr)}{fitting.removeprefix(word)}\n")


def _fitting(text: str, file: TextIO) -> str:
    """The text, broken between words where `file` is a terminal."""
    return folded(text, get_terminal_size().columns) if file.isatty() else text


def _coloured(word: str, colour: int, file: TextIO) -> str:
    """`word` in an ANSI colour if `file` is a terminal that shows colours."""
    return f"\x1b[1;{colour}m{word}\x1b[0m" if _shows_colours(file) else word


def _shows_colours(file: TextIO) -> bool:
    """Whether `file` is a terminal that shows colours (https://no-color.org)."""
    return file.isatty() and not (os.environ.get("NO_COLOR") or os.environ.get("TERM") in {None, "dumb", "unknown"})


def _write(file: TextIO, text: str) -> None:
    """Write and flush; characters that the terminal's encoding lacks are spelled out instead of failing."""
    encoding = file.encoding or "utf-8"
    file.write(text.encode(encoding, "backslashreplace").decode(encoding))
    file.flush()
