"""What a path holds that can be compared: a model folder or an export, its size, and the program that runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.printable import one_line
from tinyslm.export.format import Source
from tinyslm.export.formats import RUNTIMES, find_format, is_installed
from tinyslm.model.folder import find_model, load_tokenizer, read_model_config

Started = TypeVar("Started")


@dataclass(frozen=True)
class Weights:
    """How large a model is: bytes of its weights as stored, and how many values they are, if that is known."""

    bytes: int
    values: int | None

    @property
    def bits_per_weight(self) -> float | None:
        """Bits for each value, scales and the like included."""
        return None if self.values is None else self.bytes * 8 / self.values


@dataclass(frozen=True)
class Limits:
    """How many tokens a model reads, and how many it knows."""

    context: int
    vocab_size: int


def kind_of(path: Path) -> str:
    """What a path holds: "folder" (a model folder or a run), or the name of the format of an export."""
    if path.suffix == ".gguf" and path.is_file():
        return "gguf"
    if (path / "genai_config.json").is_file():
        return "onnx"
    if path.is_dir():
        return "folder"
    problem = f"{path} is neither a model folder nor an export." if path.exists() else f"There is no {path}."
    raise TinyslmError(
        problem, "Give model folders, run folders, GGUF files, and folders that `export --to onnx` wrote."
    )


def read_source(path: Path) -> Source:
    """A model folder's or run's configuration and tokenizer."""
    folder = find_model(path)
    return Source(read_model_config(folder), load_tokenizer(folder))


def limits_of(path: Path, kind: str) -> Limits:
    """What an export says of itself. llama.cpp's server leaves one place of the context free."""
    if kind == "gguf":
        from tinyslm.export.gguf.reader import Gguf, Strings

        file = Gguf(path)
        read = file.need(f"{file.need('general.architecture', str)}.context_length", int)
        return Limits(read - 1, len(file.need("tokenizer.ggml.tokens", Strings)))
    from tinyslm.export.onnx.genai import read_config

    said = read_config(path)
    return Limits(said.context_length, said.vocab_size)


def start(path: Path, kind: str, program: Callable[[], Started]) -> Started:
    """What runs an export, or opens it. Raises `TinyslmError` where packages are missing, and for a damaged export."""
    if not is_installed(kind):
        raise require_extra(find_format(kind).extra, f"Running {path.name}")
    try:
        return program()
    except TinyslmError:
        raise
    except Exception as error:  # of many kinds: from the reader, from protobuf, from the program
        problem = f"{RUNTIMES[kind][0]} does not run {path}: {one_line(str(error), 200)}"
        raise TinyslmError(problem, "Export the model again.") from None


def weights_of(path: Path, kind: str, values: int | None) -> Weights:
    """The size of what lies at a path; values: how many weights it has, where a GGUF file does not say so."""
    if kind == "gguf":
        from tinyslm.export.gguf.reader import Gguf

        places = Gguf(path).tensors.values()
        return Weights(sum(place.size for place in places), sum(int(np.prod(place.shape)) for place in places))
    files = find_model(path).glob("*.safetensors") if kind == "folder" else path.glob("*.onnx*")
    return Weights(sum(file.stat().st_size for file in files), values)
