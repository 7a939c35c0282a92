"""What can be compared: a model folder in our own engine, or an exported file or folder in its own program."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.export.format import Options, Original, Runtime, Scoring, Written
from tinyslm.export.formats import find_format, is_installed
from tinyslm.inference.engine import Engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import find_model, load_model, load_tokenizer, read_model_config
from tinyslm.tokenizer.tokenizer import Tokenizer

DECODED = 32
"""Tokens that are generated to measure how fast that goes."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Weights:
    """How large a model is: bytes of its weights as stored, and how many values they are (`None`: not known)."""

    bytes: int
    values: int | None

    @property
    def bits_per_weight(self) -> float | None:
        """Bits for each value, scales and the like included."""
        return self.bytes * 8 / self.values if self.values else None


@dataclass(frozen=True)
class Source:
    """A model folder before its weights are read: what is needed to cut text for it and to run its exports."""

    config: ModelConfig
    tokenizer: Tokenizer

    @property
    def begin(self) -> tuple[int, ...]:
        """What stands before a text: the end of the one before, where the tokenizer says nothing else."""
        return self.tokenizer.start_ids or (self.tokenizer.eos_id,)

    @cached_property
    def vocabulary(self) -> tuple[int, dict[str, int]]:
        """How many tokens the model scores, and the number of each: models with equal ones can be compared."""
        content = self.tokenizer.content
        added = {token["content"]: token["id"] for token in content["added_tokens"]}
        return self.config.vocab_size, {**dict(content["model"]["vocab"]), **added}


@dataclass(frozen=True)
class Limits:
    """How many tokens a model reads, and how many it knows."""

    context: int
    vocab_size: int


class Subject(Protocol):
    """A model that is being compared."""

    weights: Weights
    whole: bool
    """Whether it scores a whole passage at once; else each token is a call of its own."""

    def ids(self, text: str) -> list[int]:
        """Ids of a text, with nothing before them."""

    def logprobs(self, begin: Sequence[int], ids: Sequence[int]) -> Iterator[Array]:
        """Log-probabilities before each of `ids`, fp32 `[vocab_size]` each; `begin` stands before the first."""

    def prefill(self, ids: Sequence[int]) -> None:
        """Read ids, and choose one token."""

    def decode(self, ids: Sequence[int], count: int) -> int:
        """Generate at most so many tokens after a few ids; returns how many came."""


class FolderSubject:
    """A model folder in our engine, its weights packed where they are."""

    whole = True

    def __init__(self, folder: Path, source: Source, dtype: torch.dtype) -> None:
        self.model: Decoder = load_model(folder, dtype=dtype)
        self.tokenizer = source.tokenizer
        self._engine = Engine(self.model, self.tokenizer)
        stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        self.weights = Weights(stored, self.model.config.parameters)

    def ids(self, text: str) -> list[int]:
        """See `Subject`."""
        return self.tokenizer.encode(text)

    def logprobs(self, begin: Sequence[int], ids: Sequence[int]) -> Iterator[Array]:
        """See `Subject`."""
        # Not in the mode while it waits: of two such iterators read in turns, the mode of one would outlive the other.
        with torch.inference_mode():
            logits_tv = self.model(torch.tensor([[*begin, *ids[:-1]]]))[0, -len(ids) :]
            logprobs_tv = logits_tv.float().log_softmax(-1).numpy()
        yield from logprobs_tv

    def prefill(self, ids: Sequence[int]) -> None:
        """See `Subject`."""
        self.decode(ids, 1)

    def decode(self, ids: Sequence[int], count: int) -> int:
        """See `Subject`."""
        settings = SamplingSettings(max_tokens=count, temperature=0.0)
        return self._engine.complete(self.tokenizer.decode(ids), settings, heal=False)[0].tokens


class RuntimeSubject:
    """A file or folder in the program that runs it."""

    def __init__(self, runtime: Runtime, weights: Weights) -> None:
        self._runtime = runtime
        self.weights = weights
        self.whole = isinstance(runtime, Scoring)

    def ids(self, text: str) -> list[int]:
        """See `Subject`."""
        return self._runtime.encode(text)

    def logprobs(self, begin: Sequence[int], ids: Sequence[int]) -> Iterator[Array]:
        """See `Subject`."""
        read = [*begin, *ids[:-1]]
        if isinstance(self._runtime, Scoring):
            yield from self._runtime.all_logprobs(read)[-len(ids) :]
        else:
            for stop in range(len(begin), len(begin) + len(ids)):
                yield self._runtime.next_logprobs(read[:stop])

    def prefill(self, ids: Sequence[int]) -> None:
        """See `Subject`."""
        self._runtime.greedy(ids, 1)

    def decode(self, ids: Sequence[int], count: int) -> int:
        """See `Subject`."""
        return len(self._runtime.greedy(ids, count))


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


@contextmanager
def open_subject(path: Path, source: Source, dtype: torch.dtype, threads: int) -> Iterator[Subject]:
    """A path's model, loaded until the block ends. source: of the model folder, or of the one an export is of."""
    kind = kind_of(path)
    if kind == "folder":
        yield FolderSubject(find_model(path), source, dtype)
        return
    form = find_format(kind)
    if not is_installed(kind):
        raise require_extra(form.extra, f"Running {path.name}")
    original = Original(path.parent, Decoder(source.config, drawn=False), source.tokenizer)
    with form.open(Written(path), original, Options(threads=threads)) as runtime:
        yield RuntimeSubject(runtime, _weights(path, kind, source))


def speed(work: Callable[[], int]) -> float | None:
    """Tokens per second of what handles some and says how many, the best of three; `None` when these are too few."""
    rates = []
    for _ in range(3):
        begun = time.perf_counter()
        if (tokens := work()) < 4:
            return None
        rates.append(tokens / (time.perf_counter() - begun))
    return max(rates)


def _weights(path: Path, kind: str, source: Source) -> Weights:
    if kind == "gguf":
        from tinyslm.export.gguf.reader import Gguf

        places = Gguf(path).tensors.values()
        return Weights(sum(place.size for place in places), sum(int(np.prod(place.shape)) for place in places))
    return Weights(sum(file.stat().st_size for file in path.glob("*.onnx*")), source.config.parameters)
