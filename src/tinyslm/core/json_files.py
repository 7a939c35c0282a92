"""JSON files of ours and of model folders, read strictly: whatever is wrong with one is a `TinyslmError`."""

from __future__ import annotations

import stat
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from tinyslm.core.errors import TinyslmError
from tinyslm.core.printable import one_line
from tinyslm.core.quantities import size
from tinyslm.core.text_files import SMALL, decode_small

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Content = TypeVar("Content")

DAMAGED = "Restore it from a copy, or make it again."
_MOST_TOLD = 3


@overload
def read_json(path: Path, *, limit: int = SMALL, remedy: str = DAMAGED) -> dict[str, Any]: ...
@overload
def read_json(path: Path, kind: type[Content], *, limit: int = SMALL, remedy: str = DAMAGED) -> Content: ...
def read_json(path: Path, kind: Any = dict[str, Any], *, limit: int = SMALL, remedy: str = DAMAGED) -> Any:
    """Read a JSON file as a `kind`: an object, or a dataclass, whose fields are required and of just their types.

    Keys that a dataclass does not have are left out. Nesting is possible up to 200 levels; a byte order mark is not
    taken for text. Raises `TinyslmError` naming the file for one that is missing, no file, larger than `limit` bytes,
    no JSON, or of another kind.
    """
    from pydantic import ValidationError

    data = _read(path, limit, remedy)
    try:
        return _adapter(kind).validate_json(decode_small(data, str(path), remedy), strict=True)
    except ValidationError as error:
        raise TinyslmError(f"{path} {_explain(error.errors(include_url=False))}.", remedy) from None


def _read(path: Path, limit: int, remedy: str) -> bytes:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise TinyslmError(f"{path} is not a file.", remedy)
        if about.st_size > limit:
            raise TinyslmError(f"{path} has {size(about.st_size)}, where {size(limit)} are the most.", remedy)
        with path.open("rb") as file:
            return file.read(limit)
    except FileNotFoundError:
        raise TinyslmError(f"There is no file {path}.", "Check the path, or make the folder again.") from None
    except (OSError, ValueError) as error:  # the second: a path that cannot be one
        reason = error.strerror if isinstance(error, OSError) else error
        raise TinyslmError(f"Could not read {path}: {reason}.", "Check the path and its permissions.") from None


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _explain(mistakes: list[Any]) -> str:
    """What is wrong with a file, in words that follow its name."""
    first = mistakes[0]
    if first["type"] == "json_invalid":
        reason = str(first["ctx"]["error"])
        return "is nested too deeply" if "recursion limit" in reason else f"is not valid JSON ({reason})"
    if not first["loc"]:
        return "is damaged: it holds no JSON object"
    from tinyslm.core.config import wrong_value

    told = []
    for mistake in mistakes[:_MOST_TOLD]:
        key = ".".join(map(str, mistake["loc"]))
        told.append(f"{key} is missing" if mistake["type"] == "missing" else f"{key} = {wrong_value(mistake)}")
    more = f" (and {len(mistakes) - _MOST_TOLD} more)" if len(mistakes) > _MOST_TOLD else ""
    return f"is damaged: {one_line('; '.join(told), 300)}{more}"
