"""What a run recorded, one JSON object a line: `metrics.jsonl` in the run folder.

A run can be killed in the middle of a line and resumed from an earlier step. `MetricsLog` cuts an unfinished line off
before it goes on, and `read_metrics` forgets what was recorded after the step that the run was resumed from: it gives
one consistent history.
"""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import disk_error

Event = Mapping[str, Any]
"""A JSON object whose field "event" says what it is: start, step, validation, sample, pace, skipped, checkpoint or
end."""


class MetricsLog:
    """Appends events to `path`, each one handed to the system before `write` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _cut_unfinished_line(path)
            self._file = path.open("a", encoding="utf-8", newline="\n")
        except OSError as error:
            raise disk_error(path, error) from error

    def write(self, event: Event) -> None:
        """Append one event. Numbers that JSON cannot say (infinite, not a number) become null."""
        assert "event" in event, "an event says what it is in its field 'event'"
        try:
            self._file.write(json.dumps(_finite(event), ensure_ascii=False, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise disk_error(self.path, error) from error

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        with suppress(OSError):  # `write` has already reported the event that could not be written
            self._file.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Every event of a run in order, as if it had never been interrupted.

    A start event that resumes from step N removes the earlier rows of later steps (all rows, when N is 0); of two rows
    that record the same thing for the same step, the later one counts. Lines that are not events are left out.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise TinyslmError(
            f"Could not read {path}: {reason}.", "Give a run folder in which a training has started."
        ) from None
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number, line in enumerate(lines):
        event = _parse(line)
        if event is None:
            continue
        if event["event"] == "start":
            first = event.get("resumed_from") or 0
            rows = {key: row for key, row in rows.items() if first and row.get("step", 0) <= first}
        key = _identity(event, number)
        rows.pop(key, None)
        rows[key] = event
    return list(rows.values())


def planned_steps(events: Sequence[Event]) -> int:
    """Updates in the whole run as they were last planned; 0 when that is not known."""
    return next((row["steps"] for row in reversed(events) if row["event"] in ("start", "pace") and "steps" in row), 0)


def _identity(event: dict[str, Any], number: int) -> tuple[Any, ...]:
    """What two rows must share for the later one to replace the earlier; a start is only ever like itself."""
    if event["event"] == "start":
        return ("start", number)
    return (event["event"], event.get("step"), event.get("prompt"))


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _cut_unfinished_line(path: Path) -> None:
    """Shorten the file to its last line end."""
    if path.exists():
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


class Meter:
    """The mean loss and the tokens per second between two rows of the log."""

    def __init__(self, tokens: int, seconds: float) -> None:
        self._tokens, self._seconds = tokens, seconds
        self._losses: list[float] = []
        self._last = math.nan

    def add(self, loss: float) -> None:
        """Take the loss of an update."""
        self._losses.append(loss)

    def read(self, tokens: int, seconds: float) -> tuple[float, float]:
        """Mean loss since the last row (or its loss, if every update was skipped), and the rate."""
        if self._losses:
            self._last = sum(self._losses) / len(self._losses)
        rate = (tokens - self._tokens) / max(1e-9, seconds - self._seconds)
        self._tokens, self._seconds, self._losses = tokens, seconds, []
        return self._last, rate
