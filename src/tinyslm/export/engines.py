"""The engine for a path: a model folder or run folder, a GGUF file, or an exported ONNX folder.

    engine     computes with                          runs
    native     C++ compiled on this machine           model folders
    torch      the model's own modules                model folders, on any device
    onnx       ONNX Runtime                           folders that `export --to onnx` wrote
    llama.cpp  llama.cpp in this process              GGUF files

Named for a model folder, the last two run an export of it that lies beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from tinyslm.core.console import notice
from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.export.beside import Beside, exports_beside
from tinyslm.export.choosing import choice_key, fastest
from tinyslm.export.gguf.engine import LlamaCppEngine
from tinyslm.export.onnx.engine import OnnxEngine
from tinyslm.export.subjects import kind_of
from tinyslm.hardware.device import pick_device
from tinyslm.inference.batch_engine import BatchEngine, EngineOptions
from tinyslm.inference.draft import Draft, check_draft
from tinyslm.inference.engine import Engine
from tinyslm.inference.native.build import available
from tinyslm.inference.native.runner import NativeRunner, suits
from tinyslm.inference.runner import Runner
from tinyslm.inference.settings import read_default_sampling
from tinyslm.inference.speculation import Guesser
from tinyslm.inference.torch_runner import TorchRunner
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import find_model, load_model, load_tokenizer, usual_dtype
from tinyslm.tokenizer.tokenizer import Tokenizer

EXPORTED = {"onnx": "onnx", "llama.cpp": "gguf"}
"""Engines that run exports, and the format of these."""
ENGINES = ("native", "torch", *EXPORTED)
USUAL_SCHEME = {"onnx": "onnx:int4", "gguf": "gguf:q4_0"}


MakeRunner = Callable[[Decoder, int], Runner]


@dataclass(frozen=True)
class _Wish:
    """What an engine is to be like: see `open_engine`."""

    dtype: torch.dtype
    threads: int | None
    options: EngineOptions
    draft: Path | None
    device: torch.device


def open_engine(
    path: str | Path,
    engine: str = "auto",
    *,
    dtype: torch.dtype | None = None,
    threads: int | None = None,
    options: EngineOptions | None = None,
    draft: str | Path | None = None,
    device: str | torch.device = "auto",
) -> Engine:
    """The engine called `engine` for what is at `path`, or with "auto" the one that decodes fastest here.

    "auto" chooses among those that compute with the numbers that were asked for, by a measurement that is made once for
    each model and machine; exports in fewer bits are run only where they are named.

    dtype: number format that a model folder is computed in (see `usual_dtype`); an export has its own. threads: as many
    as PyTorch has, if not given. options: of the cache, the queue and guessing.
    draft: a smaller model folder with the same tokenizer, that guesses ahead. device: of model folders.

    Raises `TinyslmError` for a path that holds no model, and for an engine that does not exist or cannot run what is
    there.
    """
    path = Path(path)
    if engine not in ("auto", *ENGINES):
        raise TinyslmError(f'There is no engine "{engine}".', did_you_mean(engine, ["auto", *ENGINES]))
    if threads is not None and threads < 1:
        raise TinyslmError(f"{threads} threads cannot compute.", "Give a number from 1 on.")
    place = pick_device() if device == "auto" else torch.device(device)
    kind = kind_of(path)
    folder = find_model(path) if kind == "folder" else None
    dtype = dtype or (torch.float32 if folder is None else usual_dtype(folder, place))
    wish = _Wish(dtype, threads, options or EngineOptions(), None if draft is None else Path(draft), place)
    default_sampling = read_default_sampling(folder or path)
    opened = _open_folder(folder, engine, wish) if folder is not None else _open_file(path, kind, engine, wish)
    opened.default_sampling = default_sampling
    return opened


def _open_file(path: Path, kind: str, engine: str, wish: _Wish) -> Engine:
    """The engine that runs the export at `path`; see `open_engine`."""
    runs = next(name for name, form in EXPORTED.items() if form == kind)
    if engine not in ("auto", runs):
        raise TinyslmError(
            f"{path} is run by {runs}, not by the engine {engine}.",
            f"Leave the engine to be chosen, or say {runs}; {engine} runs the model folder that this was made from."
            if engine not in EXPORTED
            else f"Leave the engine to be chosen, or say {runs}.",
        )
    return _open_export(path, kind, wish)


def _open_folder(folder: Path, engine: str, wish: _Wish) -> Engine:
    if engine in EXPORTED:
        return _open_named_export(folder, engine, wish)
    model, tokenizer = load_model(folder, dtype=wish.dtype, device=wish.device), load_tokenizer(folder)
    guesser = _guesser(tokenizer, wish)
    runners, why_not = _runners(model, wish)
    if engine == "native" and why_not:
        raise TinyslmError(f"The engine native does not run {folder}: {why_not}.", "Use the engine torch.")
    if wish.threads is not None and engine != "native":
        torch.set_num_threads(wish.threads)
    makers: dict[str, Callable[[], Engine]] = {
        name: partial(BatchEngine, model, tokenizer, wish.options, runner=runner, guesser=guesser)
        for name, runner in runners.items()
        if engine in ("auto", name)
    }
    if engine == "auto" and wish.dtype == torch.float32 and wish.draft is None:
        exact = {export.format: export for export in exports_beside(folder) if export.exact}
        names = {form: name for name, form in EXPORTED.items()}
        makers |= {names[form]: partial(_open_export, export.path, form, wish) for form, export in exact.items()}
    key = choice_key(folder, wish.dtype, wish.threads, wish.device, sorted(makers))
    return fastest(makers, key, notice)


def _runners(model: Decoder, wish: _Wish) -> tuple[dict[str, MakeRunner], str | None]:
    """What computes a model here, the best first; and why it is not the native runner."""
    why_not = suits(model) or available()
    if why_not:
        return {"torch": TorchRunner}, why_not
    threads = wish.threads or torch.get_num_threads()
    return {"native": partial(NativeRunner, threads=threads), "torch": TorchRunner}, None


def _open_named_export(folder: Path, engine: str, wish: _Wish) -> Engine:
    """The smallest export beside the folder that the engine runs."""
    form = EXPORTED[engine]
    found = [export for export in exports_beside(folder) if export.format == form]
    if not found:
        raise TinyslmError(
            f"The engine {engine} runs exports, and beside {folder} there is none of it as it is now.",
            f"Make one: tinyslm export {folder} --to {USUAL_SCHEME[form]} --out {folder.parent / 'exports'}",
        )
    chosen: Beside = min(found, key=lambda export: export.bytes)
    notice(f"Engine: {engine}, with {chosen.path}.")
    return _open_export(chosen.path, form, wish)


def _open_export(path: Path, form: str, wish: _Wish) -> Engine:
    threads = wish.threads or torch.get_num_threads()
    if form == "onnx":
        tokenizer = Tokenizer.load(path)
        return OnnxEngine(path, wish.options, threads=threads, guesser=_guesser(tokenizer, wish))
    if wish.draft is not None:
        raise TinyslmError(
            "The engine llama.cpp takes no draft model here.", "Leave the draft out, or use the engine native."
        )
    return LlamaCppEngine(path, wish.options, threads=threads)


def _guesser(tokenizer: Tokenizer, wish: _Wish) -> Callable[[], Guesser] | None:
    """What makes the guesses of a draft model, if there is to be one."""
    if wish.draft is None:
        return None
    folder = find_model(wish.draft)
    own = load_tokenizer(folder)
    check_draft(own, tokenizer, str(wish.draft))
    model = load_model(folder, dtype=wish.dtype, device=wish.device)
    runners, _ = _runners(model, wish)
    return Draft(model, own, runner=next(iter(runners.values())), longest=max(1, wish.options.guesses)).guesser
