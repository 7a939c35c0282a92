"""The engine for a path: a model folder or run folder, a GGUF file, or an exported ONNX folder.

engine     computes with                                  for
native     C++ compiled on this machine                   model folders
torch      the model's own modules                        model folders, and any device
llama.cpp  llama.cpp in this process                      GGUF files
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.export.subjects import kind_of
from tinyslm.hardware.device import pick_device
from tinyslm.inference.batch_engine import BatchEngine, EngineOptions
from tinyslm.inference.native.build import available
from tinyslm.inference.native.runner import NativeRunner, suits
from tinyslm.inference.torch_runner import TorchRunner
from tinyslm.model.folder import find_model, load_model, load_tokenizer

if TYPE_CHECKING:
    from tinyslm.inference.engine import Engine

ENGINES = ("native", "torch", "llama.cpp")


def open_engine(
    path: str | Path,
    engine: str = "auto",
    *,
    dtype: torch.dtype | None = None,
    threads: int | None = None,
    options: EngineOptions | None = None,
    device: str | torch.device = "auto",
) -> Engine:
    """The engine called `engine` for what is at `path`, or with "auto" the one that decodes fastest there.

    dtype: number format that a model folder is computed in; fp32 if not given. threads: as many as PyTorch has, if not
    given. options: of the engine's cache and queue. device: of model folders.

    Raises `TinyslmError` for a path that holds no model, and for an engine that does not exist or does not run what is
    there.
    """
    path, options = Path(path), options or EngineOptions()
    if engine not in ("auto", *ENGINES):
        raise TinyslmError(f'There is no engine "{engine}".', did_you_mean(engine, ["auto", *ENGINES]))
    if threads is not None and threads < 1:
        raise TinyslmError(f"{threads} threads cannot compute.", "Give a number from 1 on.")
    kind = kind_of(path)
    if kind == "gguf":
        return _open_gguf(path, engine, threads, options)
    return _open_folder(find_model(path), engine, dtype or torch.float32, threads, options, device)


def _open_gguf(path: Path, engine: str, threads: int | None, options: EngineOptions) -> Engine:
    if engine not in ("auto", "llama.cpp"):
        raise TinyslmError(
            f"{path} is run by llama.cpp, not by the engine {engine}.",
            f"Make a model folder of it: tinyslm import {path} --out MODEL",
        )
    from tinyslm.export.gguf.engine import LlamaCppEngine

    return LlamaCppEngine(path, options, threads=threads or torch.get_num_threads())


def _open_folder(
    folder: Path,
    engine: str,
    dtype: torch.dtype,
    threads: int | None,
    options: EngineOptions,
    device: str | torch.device,
) -> Engine:
    place = pick_device() if device == "auto" else torch.device(device)
    model = load_model(folder, dtype=dtype, device=place)
    why_not = suits(model) or available()
    if engine == "native" and why_not:
        raise TinyslmError(f"The engine native does not run {folder}: {why_not}.", "Use the engine torch.")
    if engine == "torch" or why_not:
        if threads is not None:
            torch.set_num_threads(threads)
        return BatchEngine(model, load_tokenizer(folder), options, runner=TorchRunner)
    return BatchEngine(model, load_tokenizer(folder), options, runner=partial(NativeRunner, threads=threads))
