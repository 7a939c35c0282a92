"""The exports of a model folder that lie in it or beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.json_files import read_json
from tinyslm.export.exporting import REPORT, Reported
from tinyslm.export.formats import find_format, is_installed
from tinyslm.model.weights import weight_files

RUN = ("gguf", "onnx")
"""Formats that there is an engine for."""
PLACES = ("", "exports")
"""Where exports are looked for: in a folder itself, and in this one inside it."""


@dataclass(frozen=True)
class Beside:
    """An export: its place, format and scheme, its size, and whether it has all of the model's precision."""

    path: Path
    format: str
    scheme: str
    bytes: int
    exact: bool


def exports_beside(folder: Path) -> list[Beside]:
    """Exports of a model folder that were made from the weights it has now and have not failed their check.

    Looked for in the folder, beside it, and for a run's model beside the run.
    """
    newest = max((path.stat().st_mtime for path in weight_files(folder)), default=0.0)
    found: dict[Path, Beside] = {}
    for place in _places(folder.resolve()):
        for export in _listed(place, folder.resolve()):
            if export.path.stat().st_mtime >= newest:
                found[export.path] = export
    return list(found.values())


def _places(folder: Path) -> Iterator[Path]:
    around = [folder, folder.parent]
    if folder.name == "model":
        around.append(folder.parent.parent)
    for place in around:
        yield from (place / inside for inside in PLACES)


def _listed(place: Path, folder: Path) -> Iterator[Beside]:
    """What the report in a place says was made from the folder, and is there and can be run."""
    for row in _rows(place / REPORT):
        name, form, scheme = (str(row.get(key, "")) for key in ("name", "format", "scheme"))
        if form not in RUN or not is_installed(form) or Path(name).name != name or not (place / name).exists():
            continue
        known = find_format(form).schemes.get(scheme)
        if known is None or str(row.get("verdict", "")).startswith("failed"):
            continue
        of = Path(str(row.get("model", "")))
        if folder in (of.resolve(), (place / of).resolve()) or name == f"{_called(folder)}{known.suffix}":
            size = row.get("bytes")
            yield Beside(place / name, form, scheme, size if isinstance(size, int) else 0, known.exact)


def _rows(report: Path) -> list[dict[str, Any]]:
    """The rows of a report; none where there is no report, or a damaged one."""
    try:
        return read_json(report, Reported).exports
    except TinyslmError:
        return []


def _called(folder: Path) -> str:
    """What its exports are called: folders are moved together with them."""
    return folder.parent.name if folder.name == "model" else folder.name
