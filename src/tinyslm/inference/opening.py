"""Open an engine for a model folder or a run folder: the one door to generating text."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.hardware.allocator import return_freed_memory
from tinyslm.hardware.device import pick_device
from tinyslm.inference.batching import EngineOptions
from tinyslm.inference.draft import Draft, check_draft
from tinyslm.inference.engine import Engine
from tinyslm.inference.runners import RUNNERS, make_runner
from tinyslm.inference.settings import read_default_sampling
from tinyslm.model.adapted import AdaptedModel
from tinyslm.model.folder import find_model, holds_conversations, load_model, load_tokenizer, usual_dtype


def open_engine(
    path: str | Path | AdaptedModel,
    engine: str = "auto",
    *,
    dtype: torch.dtype | None = None,
    threads: int | None = None,
    options: EngineOptions | None = None,
    draft: str | Path | None = None,
    device: str | torch.device = "auto",
) -> Engine:
    """An engine for a model folder, for the model of a run folder, or for one of these with an adapter.

    engine: "native", the step compiled for this processor; "torch", the model's own modules; "auto", native where the
    model and the machine allow it. dtype: number format to compute in, by default bf16 for a model stored in it where
    the hardware is fast at it, else fp32. threads: as many as PyTorch has, if not given. options: of the cache, the
    queue and speculation. draft: a smaller model folder with the same tokenizer, which guesses ahead.

    Raises `TinyslmError` for a path without a model, and for an engine that does not exist or cannot run the model.
    """
    adapted = path if isinstance(path, AdaptedModel) else None
    given = path.base if isinstance(path, AdaptedModel) else Path(path)
    if engine not in ("auto", *RUNNERS):
        raise TinyslmError(f'There is no engine "{engine}".', did_you_mean(engine, ["auto", *RUNNERS]))
    if threads is not None and threads < 1:
        raise TinyslmError(f"{threads} threads cannot compute.", "Give a number from 1 on.")
    _check_folder(given)
    place = pick_device() if device == "auto" else torch.device(device)
    folder, options = find_model(given), options or EngineOptions()
    dtype = dtype or usual_dtype(folder, place)
    load = adapted.load if adapted else partial(load_model, folder)
    model, tokenizer = load(dtype=dtype, device=place), adapted.load_tokenizer() if adapted else load_tokenizer(folder)
    return_freed_memory()  # that parsing the tokenizer took
    guesser = None
    if draft is not None:
        small = find_model(Path(draft))
        check_draft(load_tokenizer(small), tokenizer, str(draft))
        small_model, runner = load_model(small, dtype=dtype, device=place), partial(make_runner, threads=threads)
        guesser = Draft(small_model, tokenizer, runner=runner, longest=max(1, options.guesses)).guesser
    runner = partial(make_runner, name=engine, threads=threads)
    opened = Engine(model, tokenizer, options, runner=runner, guesser=guesser)
    if threads is not None and opened.name == "torch":
        torch.set_num_threads(threads)
    opened.default_sampling = read_default_sampling(folder)
    opened.conversations = adapted.holds_conversations() if adapted else holds_conversations(folder)
    return opened


def _check_folder(path: Path) -> None:
    """Raise `TinyslmError` for what is not a folder, naming the way from other formats to a model folder."""
    if path.suffix == ".gguf" and path.is_file():
        raise TinyslmError(
            f"{path} is a GGUF file, not a model folder.", f"Import it: tinyslm import {path} --out MODEL"
        )
    if path.suffix == ".onnx" or (path / "genai_config.json").is_file():
        raise TinyslmError(
            f"{path} is an ONNX export, which only ONNX Runtime runs.",
            "Give the model folder that it was exported from.",
        )
    if not path.is_dir():
        problem = f"{path} is not a model folder." if path.exists() else f"{path} does not exist."
        raise TinyslmError(problem, "Give a model folder, a run folder or a GGUF file.")
