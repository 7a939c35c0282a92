"""Read the JSON files of tinyslm and of model folders; every fault is a `TinyslmError`.

For JSON from users and clients, `strict_json` explains mistakes more precisely.
"""

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
_MOST_MISTAKES = 3  # in a message


@overload
def read_json(path: Path, *, limit: int = SMALL, remedy: str = DAMAGED) -> dict[str, Any]: ...
@overload
def read_json(path: Path, kind: type[Content], *, limit: int = SMALL, remedy: str = DAMAGED) -> Content: ...
def read_json(path: Path, kind: Any = dict[str, Any], *, limit: int = SMALL, remedy: str = DAMAGED) -> Any:
    """Read a JSON file as `kind`: an object by default, or a dataclass, whose field types are enforced strictly.

    Keys that the dataclass does not have are ignored. At most 200 levels of nesting are read; a byte order mark is
    skipped. Raises `TinyslmError`, with the file's name and `remedy`, if it is missing, not a file, larger than `limit`
    bytes, not valid JSON, or not of this kind.
    """
    from pydantic import ValidationError

    data = _read(path, limit, remedy)
    try:
        return _adapter(kind).validate_json(decode_small(data, str(path), remedy), strict=True)
    except ValidationError as error:
        raise TinyslmError(f"{path} {_explain(error.errors(include_url=False))}.", remedy) from None


def _read(path: Path, limit: int, remedy: str) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise TinyslmError(f"{path} is not a file.", remedy)
        if status.st_size > limit:
            raise TinyslmError(
                f"{path} is too large: {size(status.st_size)}, where {size(limit)} is the limit.", remedy
            )
        with path.open("rb") as file:
            return file.read(limit)
    except FileNotFoundError:
        raise TinyslmError(f"{path} does not exist.", "Check the path, or make the folder again.") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise TinyslmError(f"Could not read {path}: {reason}.", "Check the path and its permissions.") from None


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _explain(mistakes: list[Any]) -> str:
    """Describe the faults of a file, to follow its name in a message."""
    first = mistakes[0]
    if first["type"] == "json_invalid":
        reason = str(first["ctx"]["error"])
        return "is nested too deeply" if "recursion limit" in reason else f"is not valid JSON ({reason})"
    if not first["loc"]:
        return "is damaged: it holds no JSON object"
    from tinyslm.core.config import wrong_value

    reasons = []
    for mistake in mistakes[:_MOST_MISTAKES]:
        key = ".".join(map(str, mistake["loc"]))
        reasons.append(f"{key} is missing" if mistake["type"] == "missing" else f"{key} = {wrong_value(mistake)}")
    more = f" (and {len(mistakes) - _MOST_MISTAKES} more)" if len(mistakes) > _MOST_MISTAKES else ""
    return f"is damaged: {one_line('; '.join(reasons), 300)}{more}"
