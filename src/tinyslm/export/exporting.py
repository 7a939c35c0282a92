"""Exporting a model folder: write each format, try it in the program that will run it, and only then give it its name.

Everything is made in a hidden folder next to its place, and moved there when it has been judged: what an interrupted
export leaves is nothing, and what did not pass is called `.failed`.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import check_folder, disk_error, write_json
from tinyslm.core.json_files import read_json
from tinyslm.core.locks import Lock
from tinyslm.export.checks import Findings, Reference, judge, measure, reach, try_template
from tinyslm.export.format import Options, Original, Written
from tinyslm.export.formats import RUNTIMES, Target, check_packages, targets
from tinyslm.model.compressed_tensors import is_quantized
from tinyslm.model.folder import find_model, load_model, load_tokenizer, name_of

FAILED = ".failed"
REPORT = "exports.json"
NOT_CHECKED = "not checked"
ROUNDED = (
    "the model folder is quantized: this export was made from rounded weights, and rounds them again where its scheme "
    "does; the folder that was not quantized is the better source"
)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Reported:
    """The content of a report, `exports.json`: a row for each export."""

    exports: list[dict[str, Any]]


@dataclass(frozen=True)
class Export:
    """One export: what was made, and what the check found (`None` where it could not run, or was not asked for).

    path: the file or folder; its name ends in `.failed` where the check failed. verdict: "ok", "failed: " and why, or
    "not checked". notes: every tensor that could not have the scheme, and what it has instead; and whether the weights
    had been rounded before.
    """

    format: str
    scheme: str
    path: Path
    bytes: int
    verdict: str
    findings: Findings | None
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it was checked and is not the original."""
        return self.verdict.startswith("failed")


def export_model(
    folder: str | Path,
    to: str | Sequence[str],
    out: str | Path,
    *,
    texts: Sequence[str] = (),
    verify: bool = True,
    threads: int = 1,
    progress: Progress = lambda *_: None,
) -> list[Export]:
    """Write a model folder (or a run's model) in other formats, each checked in its own runtime before it counts.

    to: formats, and `format:scheme` items, as `gguf,onnx:int4,hf` or a list. texts: what the model is meant for; some
    schemes measure with them which weights matter most, and checks take their prompts from them. progress: called for
    each stage. A report, `exports.json`, is written next to the exports.

    Raises `TinyslmError` for a format that does not exist, is not installed or cannot hold this model, for a chat
    template that cannot be rendered, and when something of the same name is there already: all before it writes.
    """
    wanted = targets(to)
    if verify:
        check_packages(wanted)
    source, out = find_model(Path(folder)), Path(out)
    check_folder(out)
    with Lock(out / ".export.lock", out):
        return _exported(source, wanted, out, Options(texts, threads), progress, verify=verify)


def _exported(
    source: Path, wanted: Sequence[Target], out: Path, options: Options, progress: Progress, *, verify: bool
) -> list[Export]:
    name = name_of(source)
    for target in wanted:
        made_name = f"{name}{_suffix(target)}"
        check_unused([out / made_name])
        check_unused([out / name for name in target.format.companions(made_name)])
    _reported(out)
    progress("loading the model", 0, 0)
    original = Original(source, load_model(source, dense=True), load_tokenizer(source))
    for target in wanted:
        if why_not := target.format.supports(original.model):
            raise TinyslmError(
                f'{source} cannot be exported to "{target.format.name}": {why_not}.', "Leave this format out of --to."
            )
    try_template(original)
    notes = (ROUNDED,) if is_quantized(read_json(source / "config.json"), str(source)) else ()
    references: dict[int, Reference] = {}
    made = []
    for target in wanted:
        path = out / f"{name}{_suffix(target)}"
        longest = reach(original.model, target.format.longest(original.model))
        if verify and longest not in references:
            references[longest] = Reference(original, options.calibration, longest=longest)
        reference = references.get(longest)
        export = _export(target, original, path, options, reference, progress)
        made.append(replace(export, notes=(*export.notes, *notes)))
        _record(out, source, made)
    return made


def check_unused(paths: Sequence[Path]) -> None:
    """Raise `TinyslmError` when there is something at one of the paths, or a failed export of that name."""
    for path in paths:
        for taken in (path, _failed(path)):
            if taken.exists() or taken.is_symlink():
                raise TinyslmError(
                    f"{taken} already exists, and nothing is written over.",
                    "Remove it, or give another folder with --out.",
                )


def _export(
    target: Target, original: Original, path: Path, options: Options, reference: Reference | None, progress: Progress
) -> Export:
    """Make one export in a hidden folder, judge it there, and move it to its place with what belongs to it."""
    program = f", to be tried in {RUNTIMES[target.format.name][0]}" if reference else ""
    progress(f"{target}{program}", 0, 0)
    with _workplace(path) as place:
        written = target.format.write(original, target.scheme, place / path.name, options)
        verdict, findings = NOT_CHECKED, None
        if reference is not None:
            verdict, findings = _checked(target, written, original, options, reference)
        made = Export(
            target.format.name,
            target.scheme,
            _failed(path) if verdict.startswith("failed") else path,
            _size(written.path),
            verdict,
            findings,
            tuple(written.notes),
        )
        companions = [] if made.failed else [file for file in place.iterdir() if file != written.path]
        check_unused([path, *(path.parent / file.name for file in companions)])
        for file in companions:
            file.rename(path.parent / file.name)
        written.path.rename(made.path)
    return made


def _checked(
    target: Target, written: Written, original: Original, options: Options, reference: Reference
) -> tuple[str, Findings | None]:
    """The verdict. Whatever a runtime cannot do with its file is a fault of the export, not of the user."""
    scheme = target.format.schemes[target.scheme]
    try:
        with torch.inference_mode(), target.format.open(written.path, original.source, options.threads) as runtime:
            findings = measure(runtime, reference, scheme)
    except Exception as error:
        problem = error.problem if isinstance(error, TinyslmError) else f"{type(error).__name__}: {error}"
        return f"failed: {RUNTIMES[target.format.name][0]} does not run it: {' '.join(problem.split())[:300]}", None
    return judge(findings, scheme), findings


@contextmanager
def _workplace(path: Path) -> Iterator[Path]:
    """A hidden folder next to `path` for the duration of the block; one left by a killed process is removed first."""
    place = path.parent / ".export.tmp"
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        yield place
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _record(out: Path, source: Path, made: Sequence[Export]) -> None:
    """Write the report; its rows of other exports that still exist stay."""
    file = out / REPORT
    rows = [_row(export, source) for export in made]
    names = {row["name"] for row in rows}
    others = [row for row in _reported(out) if row.get("name") not in names and (out / str(row.get("name"))).exists()]
    write_json(file, {"exports": [*others, *rows]})


def _reported(out: Path) -> list[dict[str, Any]]:
    """What the report in a folder says of each export; raises `TinyslmError` where it is damaged."""
    file = out / REPORT
    if not file.exists():
        return []
    return read_json(file, Reported, remedy="Remove it, or give another folder with --out.").exports


def _row(export: Export, source: Path) -> dict[str, Any]:
    row = asdict(export)
    del row["path"]
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(export.path.stat().st_mtime))
    return {"name": export.path.name, "model": str(source), "made": made, **row}


def _suffix(target: Target) -> str:
    return target.format.schemes[target.scheme].suffix


def _failed(path: Path) -> Path:
    return path.with_name(path.name + FAILED)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
