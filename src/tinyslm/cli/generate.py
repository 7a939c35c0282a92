"""`tinyslm generate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tinyslm.inference.settings import SamplingSettings

if TYPE_CHECKING:
    from tinyslm.inference.engine import Engine


def generate(
    model: Path,
    /,
    *,
    prompt: Annotated[str, Parameter(name=["--prompt", "-p"], allow_leading_hyphen=True)] = "",
    samples: Annotated[int, Parameter(name=["--samples", "-n"])] = 1,
    sampling: Annotated[SamplingSettings | None, Parameter(name="*")] = None,
    json: bool = False,
    dtype: str = "fp32",
) -> None:
    """Continue a prompt; the text appears as it is generated.

    Parameters
    ----------
    model
        A model folder, or a run folder (its model is used).
    prompt
        The text to go on from; `-` reads it from standard input; empty: the start of a new document.
    samples
        How many samples to generate, at once.
    sampling
        How the text is drawn.
    json
        Print one JSON object for each sample, when it is complete.
    dtype
        Number format to compute in: fp32, or bf16 where the hardware has it (faster for large models).
    """
    import sys

    from tinyslm.core.errors import TinyslmError
    from tinyslm.hardware.device import pick_device, pick_dtype
    from tinyslm.inference.engine import Engine
    from tinyslm.model.folder import find_model

    if samples < 1:
        raise TinyslmError(f"{samples} samples cannot be generated.", "Give -n a number from 1 on.")
    sampling = sampling or SamplingSettings()
    device = pick_device()
    engine = Engine.load(find_model(model), dtype=pick_dtype(device, dtype), device=device)
    if prompt == "-":
        prompt = sys.stdin.read()
    if json:
        _print_json(engine, prompt, sampling, samples)
    elif samples == 1:
        _print_stream(engine, prompt, sampling)
    else:
        _print_samples(engine, prompt, sampling, samples)


def _print_stream(engine: Engine, prompt: str, sampling: SamplingSettings) -> None:
    from tinyslm.core.console import say, stream

    pieces = engine.stream(prompt, sampling)
    first = next(pieces)  # a prompt that is too long is told before it is printed
    stream(prompt + first.text)
    for piece in pieces:
        stream(piece.text)
    say()


def _print_samples(engine: Engine, prompt: str, sampling: SamplingSettings, samples: int) -> None:
    from tinyslm.core.console import say

    for number, completion in enumerate(engine.complete(prompt, sampling, samples), 1):
        say(f"--- sample {number} of {samples} ---\n{prompt}{completion.text}\n")


def _print_json(engine: Engine, prompt: str, sampling: SamplingSettings, samples: int) -> None:
    from dataclasses import asdict
    from json import dumps

    from tinyslm.core.console import stream

    for completion in engine.complete(prompt, sampling, samples):
        stream(dumps({"prompt": prompt, **asdict(completion)}) + "\n")
