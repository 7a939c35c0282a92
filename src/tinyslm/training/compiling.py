"""Whether updates are compiled with torch.compile: tried where it can pay, found out once, and remembered.

Compiling makes updates faster and takes minutes. It is tried where all of this holds:

- The device is a CPU without our own kernels, or a CUDA device. Where the kernels are at hand they do what a compiler
  would, and step aside under one: compiled updates were then as fast as theirs, or took up to 1.25 times as long.
- There is a C++ compiler, which torch.compile needs on both.
- The run is so long that even compiling from nothing takes no more than `MOST_SHARE` of it.

A trial times a few updates each way, and the faster way is taken. What it found lies in the user's cache folder, beside
what the compiler made, so that the next run of the same shape on the same machine need not try: it compiles where that
saves more than it costs, however short the run.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import sha256_json, write_json
from tinyslm.core.json_files import read_json
from tinyslm.hardware.compiling import INSTALL, NotAvailable, build_ahead, compiler, private, user_cache
from tinyslm.hardware.machine import read_processor
from tinyslm.inference.native import build as engine_step
from tinyslm.model.decoder import Decoder
from tinyslm.model.kernels import library
from tinyslm.model.kernels.library import kernels
from tinyslm.training.config import RunConfig

MOST_SHARE = 0.03
"""Of a run's time, what finding out may take."""
WARM_UP = {"cpu": 120.0, "cuda": 60.0}
"""Seconds for compiling from nothing, about, by the kind of device; on other kinds it is not tried.

On one busy core it took 160 to 180 s for one to four small blocks, and 14 to 30 s where what was compiled lay on the
disk already. A graphics card's was not measured.
"""
CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""The environment variable that says where PyTorch's compiler keeps what it makes."""
BACKEND = "inductor"
"""Which of PyTorch's compilers makes the code."""
MARGIN = 0.02
"""By less than this share, two measurements of one thing differ too."""


@dataclass(frozen=True)
class Timing:
    """Seconds of an update, and how much longer the first one took."""

    update: float
    warm_up: float


@dataclass(frozen=True)
class Compiling:
    """Whether updates are compiled, and why.

    eager, compiled: seconds of an update as it is written, and compiled. warm_up: seconds that compiling took. Each is
    None where it was not measured.
    """

    on: bool
    reason: str
    eager: float | None = None
    compiled: float | None = None
    warm_up: float | None = None

    def pays(self, seconds: float) -> bool:
        """Whether a run of so many seconds gains more by compiling than that takes; False where it was not timed."""
        if not self.eager or not self.compiled or self.warm_up is None:
            return False
        return (1 - self.compiled / self.eager) * seconds > self.warm_up


Measure = Callable[[bool], Timing]
"""Times updates as they are written (False) or compiled (True)."""


def settled(config: RunConfig, device: torch.device, dtype: torch.dtype) -> Compiling | None:
    """Whether updates are compiled where that can be said without timing any; else None."""
    if config.train.compile != "auto":
        return Compiling(config.train.compile == "on", "the settings say so")
    reason = out_of_question(device, dtype)
    return Compiling(False, reason) if reason else None


def choose(config: RunConfig, device: torch.device, dtype: torch.dtype, measure: Measure) -> tuple[Compiling, float]:
    """Whether the updates of a run with a given time are to be compiled, and the seconds of one the chosen way."""
    if decided := settled(config, device, dtype):
        return _measured(decided, measure)
    seconds, file = 60 * (config.train.minutes or 0.0), place_of(config, device, dtype)
    if known := _remembered(file):
        on = known.on and known.pays(seconds)
        reason = "an earlier run found it faster" if on else "an earlier run found that it would not pay"
        found, update = _measured(Compiling(on, reason, known.eager, known.compiled, known.warm_up), measure)
        if on:  # where most of it lay on the disk already, it took less time
            _remember(file, replace(known, warm_up=found.warm_up))
        return found, update
    if seconds * MOST_SHARE < WARM_UP[device.type]:
        return _measured(Compiling(False, "the run is too short to find out whether it would pay"), measure)
    found = _tried(measure)
    if found.compiled:
        _remember(file, found)
    taken = found.compiled if found.on else found.eager
    assert taken, "the way that is taken was timed"
    return found, taken


def out_of_question(device: torch.device, dtype: torch.dtype) -> str:
    """Why compiling is not even tried for this device and type of products, or ""."""
    if device.type not in WARM_UP:
        return f"it is not tried on {device.type}"
    if device.type == "cpu" and kernels(dtype) is not None:
        return "the kernels for this processor are as fast"
    return missing_compiler()


def missing_compiler() -> str:
    """Why there is no compiler for torch.compile, or ""."""
    try:
        compiler()
    except NotAvailable as problem:
        return str(problem)
    return ""


def check_compiling(config: RunConfig) -> None:
    """Raise `TinyslmError` where the settings want what cannot be had here."""
    if config.train.compile == "on" and (problem := missing_compiler()):
        raise TinyslmError(
            f"train.compile is on, but {problem}.",
            "Install g++ or clang++, or leave it to tinyslm: --train.compile auto",
        )


def compile_native(dtype: torch.dtype) -> None:
    """Compile the native libraries of a run on the CPU that are not in the user's cache folder: the training kernels
    in `dtype`, those in fp32 for the final score, and the engine's step, which writes samples.

    The first run on a machine waits some 20 s here; later runs find the libraries in the cache. The compilers run in
    parallel. Without a compiler, nothing happens: PyTorch's own operations are used.
    """
    makers = [engine_step.available, *(partial(kernels, numbers) for numbers in {dtype, torch.float32})]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda make: make(), makers))


def compile_all() -> None:
    """Fill the user's cache folder with everything that is compiled for this processor.

    Raises `TinyslmError` where that is not possible.
    """
    if why := engine_step.available():
        raise TinyslmError(f"The engine cannot be compiled: {why}.", INSTALL)
    compile_native(torch.bfloat16)


def compile_ahead() -> list[Path]:
    """Compile everything for the kinds of processors in `hardware.prebuilt.KINDS` that are of this architecture, into
    the installation. Raises `TinyslmError` where that is not possible.
    """
    try:
        made = build_ahead(engine_step.SOURCE)
        for numbers in (torch.bfloat16, torch.float32):
            made += build_ahead(library.SOURCE, library.options(numbers))
    except (NotAvailable, OSError) as problem:
        raise TinyslmError(f"The libraries cannot be compiled: {problem}.", INSTALL) from None
    return made


def compile_model(model: Decoder) -> None:
    """Have a model compiled when it makes its next update; what is made then is kept in the user's cache folder."""
    given = Path(os.environ.get(CACHE, ""))
    if not given.name or given.name.startswith("torchinductor_"):  # PyTorch sets it to a temporary folder by itself
        with suppress(NotAvailable):
            os.environ[CACHE] = str(private(user_cache() / "torch"))
    model.model.compile(backend=BACKEND)


def uncompiled() -> AbstractContextManager[None]:
    """Run a compiled model as it is written: only training steps, which all have one shape, are worth compiling.

    Other shapes would make the compiler give up on the model after a while, and a resumed run would then compute its
    steps in another way than the run that was not interrupted.
    """
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def place_of(config: RunConfig, device: torch.device, dtype: torch.dtype) -> Path:
    """The file for what is found out about these updates on this machine."""
    train = config.train.model_dump(include={"batch", "micro_batch", "checkpoint_activations"})
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else read_processor()
    versions = [version("tinyslm"), torch.__version__]
    key = sha256_json([machine, torch.get_num_threads(), versions, config.model.model_dump(), train, str(dtype)])
    return user_cache() / "compiling" / f"{key[:20]}.json"


def _tried(measure: Measure) -> Compiling:
    """Both ways timed, and the faster one chosen."""
    eager = measure(False).update
    try:
        timing = measure(True)
    except (RuntimeError, OSError) as error:  # what PyTorch's compilers raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Compiling(False, f"compiling failed: {lines[0]}", eager)
    on = timing.update < (1 - MARGIN) * eager
    return Compiling(on, "it is faster" if on else "it is not faster", eager, timing.update, timing.warm_up)


def _measured(decided: Compiling, measure: Measure) -> tuple[Compiling, float]:
    """A decision that was taken before, with the speed of its way as it is now."""
    timing = measure(decided.on)
    if decided.on:
        return Compiling(True, decided.reason, decided.eager, timing.update, timing.warm_up), timing.update
    return Compiling(False, decided.reason, timing.update, decided.compiled, decided.warm_up), timing.update


def _remembered(file: Path) -> Compiling | None:
    """What an earlier run found out; None where there is nothing that can be read."""
    try:
        private(file.parent)
        return read_json(file, Compiling) if file.is_file() else None
    except (NotAvailable, TinyslmError):
        return None


def _remember(file: Path, found: Compiling) -> None:
    with suppress(NotAvailable, TinyslmError):  # the next run tries again
        private(file.parent)
        write_json(file, asdict(found))
