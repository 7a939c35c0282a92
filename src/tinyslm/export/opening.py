"""What a path holds that can be compared: a model folder or an export, and the program that runs it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.printable import one_line
from tinyslm.evaluation.protocols import Runtime
from tinyslm.export.format import Source, Stored
from tinyslm.export.formats import EXPORTS, RUNTIMES, find_format, is_installed
from tinyslm.model.folder import find_model, load_tokenizer, read_model_config

FOLDER = "folder"
"""The kind of a path that is not an export: a model folder or a run folder."""


def kind_of(path: Path) -> str:
    """What a path holds: `FOLDER` (a model folder or a run), or the name of the format of an export."""
    if found := next((name for name, holds in EXPORTS.items() if holds(path)), ""):
        return found
    if path.is_dir():
        return FOLDER
    problem = f"{path} is neither a model folder nor an export." if path.exists() else f"{path} does not exist."
    raise TinyslmError(
        problem, "Give model folders, run folders, GGUF files, and folders that `export --to onnx` wrote."
    )


def read_source(path: Path) -> Source:
    """A model folder's or run's configuration and tokenizer."""
    folder = find_model(path)
    return Source(read_model_config(folder), load_tokenizer(folder))


def examine(path: Path, kind: str) -> Stored:
    """What an export says of itself."""
    found = find_format(kind).examine
    assert found is not None, kind
    return found(path)


@contextmanager
def reopened(path: Path, kind: str, threads: int) -> Iterator[Runtime]:
    """An export in its program. Raises `TinyslmError` where packages are missing, and for a damaged export."""
    form = find_format(kind)
    if not is_installed(kind):
        raise require_extra(form.extra, f"Running {path.name}")
    assert form.reopen is not None, kind
    try:
        opened = form.reopen(path, threads)
    except TinyslmError:
        raise
    except Exception as error:  # of many kinds: from the reader, from protobuf, from the program
        problem = f"{RUNTIMES[kind][0]} does not run {path}: {one_line(str(error), 200)}"
        raise TinyslmError(problem, "Export the model again.") from None
    with opened as runtime:
        yield runtime
