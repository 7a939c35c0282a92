"""The fastest of several engines, found by a short measurement that is remembered for the model and the machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_json
from tinyslm.core.json_files import read_json
from tinyslm.hardware.compiling import user_cache
from tinyslm.hardware.limits import usable_cores
from tinyslm.hardware.machine import read_processor
from tinyslm.inference.engine import Engine
from tinyslm.inference.request import Request
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.folder import read_card
from tinyslm.model.weights import weight_files

SECONDS, ROUNDS = 0.07, 3
"""How long each engine decodes to be measured, and how often; the best time counts."""
CLOSE = 0.9
"""An engine with this share of the best speed is about as fast."""
LEAST, MOST = 4, 200
"""Tokens that this takes."""
KEPT = 200
"""Choices that are remembered."""
IMPOSSIBLE = -1e4
"""Added to the logit of an end, so that a measurement goes on."""


def fastest(
    makers: Mapping[str, Callable[[], Engine]], key: str, notice: Callable[[str], None] = lambda text: None
) -> Engine:
    """The engine that decodes fastest among those that can be made, by name; the others are closed.

    Of those about as fast as the fastest, the first is taken. key: of the model, the machine and everything else that
    decides. The choice is remembered for it in the user's cache folder, unless the machine was busy with other things;
    `notice` is told what is measured now, and chosen.
    """
    if len(makers) == 1:
        return next(iter(makers.values()))()
    known = recall(key)
    if known in makers:
        return makers[known]()
    engines = {name: make() for name, make in makers.items()}
    speeds = dict.fromkeys(engines, 0.0)
    for _ in range(ROUNDS):  # in turns, so that what else the machine does hits all of them
        speeds = {name: max(speeds[name], decode_speed(engine)) for name, engine in engines.items()}
    best = max(speeds.values())
    chosen = next(name for name, speed in speeds.items() if speed > CLOSE * best)
    for name, engine in engines.items():
        if name != chosen:
            engine.close()
    if not _is_busy():
        remember(key, chosen)
    told = ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items())
    notice(f"Engine: {chosen}, the fastest here for this model (tokens per second: {told}).")
    return engines[chosen]


def decode_speed(engine: Engine) -> float:
    """Tokens per second of one text, measured for a moment."""
    ids = (*engine.tokenizer.start_ids, *engine.tokenizer.encode("One, two, three"))[: max(1, engine.context // 2)]
    most = max(2, min(MOST, engine.context - len(ids)))
    settings = SamplingSettings(temperature=0, max_tokens=most)
    ends = dict.fromkeys(engine.tokenizer.stop_ids, IMPOSSIBLE)
    generation = engine.submit(Request(ids or (engine.tokenizer.eos_id,), settings, bias=ends))
    begun, first, tokens, now = time.perf_counter(), 0, 0, 0.0
    for piece in generation:
        now, tokens = time.perf_counter(), piece.tokens
        if not first:
            begun, first = now, tokens
        elif now - begun > SECONDS and tokens - first >= LEAST:
            break
    generation.cancel()
    return (tokens - first) / max(now - begun, 1e-9)


def _is_busy() -> bool:
    """Whether more programs compute than the machine has cores for."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > usable_cores() + 1


def choice_key(folder: Path, *details: object) -> str:
    """A key for a model folder's weights on this machine, with these libraries; `details`: what else decides."""
    recorded = read_card(folder).get("xxh3") or [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in weight_files(folder)
    ]
    machine = (platform.machine(), read_processor(), usable_cores())
    versions = [version(name) for name in ("tinyslm", "torch")]
    return sha256(repr((recorded, machine, versions, details)).encode()).hexdigest()[:32]


def recall(key: str) -> str:
    """What was chosen before, or ""."""
    return _choices().get(key, "")


def remember(key: str, name: str) -> None:
    """Note what was chosen. Where nothing can be written, it is measured again the next time."""
    rest = [item for item in _choices().items() if item[0] != key]
    with suppress(TinyslmError, OSError):
        _file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(_file(), dict([*rest[1 - KEPT :], (key, name)]))


def _choices() -> dict[str, str]:
    """What is remembered; a file that is damaged is written anew."""
    with suppress(TinyslmError):
        return read_json(_file(), dict[str, str])
    return {}


def _file() -> Path:
    return user_cache() / "engines.json"
