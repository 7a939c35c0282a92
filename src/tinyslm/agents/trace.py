"""The trace of an agent's run: all that was said, called and returned, in a file that can be read and replayed.

A file holds one JSON object a line: a `Start`, then for each step a `Said` and a `Returned` for each of its calls, and
an `End`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_atomic
from tinyslm.core.quantities import counted
from tinyslm.inference.tools.running import Call

LARGEST = 1 << 28  # bytes of a file that is read
_REMEDY = "Give a file that an agent's trace was saved to."


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Start(_Record):
    """What the run began with. engine: what computed; checksum: of the model's weights, "" where it is not known."""

    kind: Literal["start"] = "start"
    version: Literal[1] = 1
    engine: str
    checksum: str
    tools: list[dict[str, Any]]
    settings: dict[str, Any]
    limits: dict[str, Any]
    messages: list[dict[str, Any]]


class Said(_Record):
    """One step of the model. tokens: generated; prompt_tokens, cached_tokens: read, and of these known already."""

    kind: Literal["said"] = "said"
    step: int
    text: str
    calls: list[Call]
    finish: str
    seed: int
    tokens: int
    prompt_tokens: int
    cached_tokens: int
    seconds: float


class Returned(_Record):
    """What one call gave, before it was shortened."""

    kind: Literal["returned"] = "returned"
    step: int
    call: Call
    text: str
    failed: bool
    seconds: float


class End(_Record):
    """The answer, and why the run ended; "error": something went wrong, and `text` says what."""

    kind: Literal["end"] = "end"
    text: str
    finish: str
    steps: int


_LINE: TypeAdapter[Start | Said | Returned | End] = TypeAdapter(
    Annotated[Start | Said | Returned | End, Field(discriminator="kind")]
)


class Trace:
    """The records of one run, in order."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.records: list[Said | Returned | End] = []

    def add(self, record: Said | Returned | End) -> None:
        """One record more."""
        self.records.append(record)

    @property
    def said(self) -> list[Said]:
        """The model's steps."""
        return [record for record in self.records if isinstance(record, Said)]

    @property
    def returned(self) -> list[Returned]:
        """What the calls gave."""
        return [record for record in self.records if isinstance(record, Returned)]

    @property
    def end(self) -> End | None:
        """How it ended; `None` while it goes on."""
        last = self.records[-1] if self.records else None
        return last if isinstance(last, End) else None

    def save(self, path: str | Path) -> None:
        """Write it as JSON lines, whole or not at all."""
        lines = [json.dumps(record.model_dump(mode="json")) + "\n" for record in (self.start, *self.records)]
        write_atomic(Path(path), "".join(lines))

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a file that `save` wrote; raises `TinyslmError` for any other."""
        path = Path(path)
        try:
            if path.stat().st_size > LARGEST:
                raise TinyslmError(f"{path} is too large for a trace.", _REMEDY)
            lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
        except OSError as error:
            raise TinyslmError(f"Could not read {path}: {error.strerror}.", "Check the path.") from None
        records = [_read(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]
        start = records[0]
        if not isinstance(start, Start):
            raise TinyslmError(f"{path} is not a trace: it does not begin with a start.", _REMEDY)
        trace = cls(start)
        for number, record in enumerate(records[1:], 2):
            if isinstance(record, Start):
                raise TinyslmError(f"{path}:{number}: a second trace begins here.", _REMEDY)
            trace.add(record)
        return trace

    def lines(self) -> Iterator[str]:
        """The run as lines for a person."""
        start = self.start
        yield f"engine: {start.engine}   weights: {start.checksum or 'not known'}"
        yield "tools: " + (", ".join(_name(tool) for tool in start.tools) or "none")
        for message in start.messages:
            yield f"{message.get('role')}: {message.get('content')}"
        for record in self.records:
            yield from _record_lines(record)


def _read(line: bytes, place: str) -> Start | Said | Returned | End:
    try:
        return _LINE.validate_python(json.loads(line))
    except (ValueError, RecursionError) as error:
        if not isinstance(error, ValidationError):
            raise TinyslmError(f"{place} is not a record of a trace: it is not JSON.", _REMEDY) from None
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"][1:]))
        reason = f"{where}: {first['msg']}" if where else str(first["msg"])
        raise TinyslmError(f"{place} is not a record of a trace ({reason}).", _REMEDY) from None


def _name(tool: dict[str, Any]) -> str:
    function = tool.get("function")
    return str(function.get("name")) if isinstance(function, dict) else "?"


def _record_lines(record: Said | Returned | End) -> Iterator[str]:
    if isinstance(record, Said):
        yield f"\nstep {record.step}   {counted(record.tokens, 'token')}, {record.seconds:.2f} s"
        if record.text:
            yield record.text
    elif isinstance(record, Returned):
        yield f"{record.call.name} {json.dumps(record.call.arguments, ensure_ascii=False)}"
        yield f"  {'failed: ' if record.failed else ''}{record.text}   ({record.seconds:.2f} s)"
    else:
        yield f"\nended after {counted(record.steps, 'step')}: {record.finish}"
