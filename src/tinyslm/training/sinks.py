"""Other places that a run's events can go to while it runs: TensorBoard and trackio, both as files on this machine.

Nothing is sent anywhere and no server is started; `tensorboard --logdir RUN` and `trackio show --project tinyslm` show
what was written. The libraries come with the extra "tracking".
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tinyslm.core.config import flatten
from tinyslm.core.errors import require_extra
from tinyslm.core.printable import printable
from tinyslm.core.registry import Registry
from tinyslm.training.metrics import Event

TRACKIO_PROJECT = "tinyslm"


class Sink(Protocol):
    """Takes the events that `metrics.jsonl` takes."""

    def write(self, event: Event) -> None:
        """Record one event."""

    def close(self) -> None:
        """Write out what is waiting, and stop."""


SINKS: Registry[Callable[[Path], Sink]] = Registry("sink")


def open_sinks(names: Sequence[str], run: Path) -> list[Sink]:
    """The named sinks for a run folder. Raises `TinyslmError` for an unknown name or a missing library."""
    makers = [SINKS[name] for name in names]
    return [make(run) for make in makers]


def scalars(event: Event) -> dict[str, float]:
    """The numbers of an event under the names that the sinks show: `train/loss`, `validation/bits_per_byte`, ..."""
    group, fields = {
        "step": ("train", event),
        "validation": ("validation", event),
        "end": ("result", event.get("result") or {}),
    }.get(event["event"], ("", {}))
    return {
        f"{group}/{name}": float(value)
        for name, value in flatten(fields, "/")
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }


@SINKS.register("tensorboard")
class TensorBoardSink:
    """Event files in `RUN/tensorboard`."""

    def __init__(self, run: Path) -> None:
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise require_extra("tracking", "TensorBoard") from None
        self._writer = EventFileWriter(str(run / "tensorboard"))

    def write(self, event: Event) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        if event["event"] == "start":
            # Makes TensorBoard forget what an interrupted run recorded after the step that is resumed from.
            self._add((event.get("resumed_from") or 0) + 1, session_log=SessionLog(status=SessionLog.START))
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(event).items()]
        if event["event"] == "sample":
            values.append(_text_value("sample", f"{event.get('prompt') or ''}{event.get('text', '')}"))
        if values:
            self._add(event.get("step", 0), summary=Summary(value=values))

    def close(self) -> None:
        self._writer.close()

    def _add(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event as Record

        self._writer.add_event(Record(wall_time=time.time(), step=step, **content))


@SINKS.register("trackio")
class TrackioSink:
    """Rows in trackio's own database on this machine: project "tinyslm", one run for each run folder.

    They are written to its storage directly: `trackio.init` would ask the hub for the user's name, start threads, and
    follow environment variables that send the numbers to a server.
    """

    def __init__(self, run: Path) -> None:
        try:
            from trackio.sqlite_storage import SQLiteStorage
        except ImportError:
            raise require_extra("tracking", "trackio") from None
        self._storage = SQLiteStorage
        self._name = run.resolve().name
        self._id = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:32]

    def write(self, event: Event) -> None:
        values: dict[str, Any] = dict(scalars(event))
        if event["event"] == "sample":
            values["sample"] = printable(f"{event.get('prompt') or ''}{event.get('text', '')}")
        if values:
            step = event.get("step", 0)
            # A resumed run repeats steps and gets the same numbers again: the row that is there already stays.
            row = f"{self._id}-{event['event']}-{step}-{event.get('prompt') or ''}"
            self._storage.bulk_log(TRACKIO_PROJECT, self._name, [values], steps=[step], log_ids=[row], run_id=self._id)

    def close(self) -> None:
        """Nothing is waiting: each event is in the database when `write` returns."""


def _text_value(tag: str, text: str) -> Any:
    """A TensorBoard summary value that its text page shows unformatted (an indented block is code in Markdown)."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.text.metadata import create_summary_metadata

    block = "\n".join(f"    {line}" for line in printable(text).split("\n"))
    tensor = TensorProto(
        dtype=DT_STRING,
        string_val=[block.encode("utf-8")],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    return Summary.Value(tag=tag, metadata=create_summary_metadata(display_name=tag, description=""), tensor=tensor)
