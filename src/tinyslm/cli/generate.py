"""`tinyslm generate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from tinyslm.inference.engine import Engine
    from tinyslm.inference.sampling import SamplingSettings


def generate(
    model: Path,
    *,
    prompt: Annotated[str, Parameter(name=["--prompt", "-p"])] = "",
    n: Annotated[int, Parameter(name=["-n", "--samples"])] = 1,
    max_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    stop: tuple[str, ...] = (),
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
    n
        How many samples to generate, at once.
    max_tokens
        Most tokens to generate for each sample.
    temperature
        Divides the logits; 0: always the likeliest token.
    top_k
        Keep the k likeliest tokens; 0: all.
    top_p
        Keep the likeliest tokens that together have this probability.
    min_p
        Drop tokens less likely than this share of the likeliest.
    repetition_penalty
        Makes tokens that were already seen less likely; 1: off.
    seed
        Makes the draws repeatable; sample i uses seed + i.
    stop
        A text that ends the generation; may be given several times.
    json
        Print one JSON object for each sample, when it is complete.
    dtype
        Number format to compute in: fp32, or bf16 where the hardware has it (faster for large models).
    """
    import sys

    from tinyslm.core.config import build_config
    from tinyslm.hardware.device import pick_device, pick_dtype
    from tinyslm.inference.engine import Engine
    from tinyslm.inference.sampling import SamplingSettings
    from tinyslm.model.folder import find_model

    settings = build_config(
        SamplingSettings,
        {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "seed": seed,
            "stop": stop,
        },
        origin="the options",
    )
    device = pick_device()
    engine = Engine.load(find_model(model), dtype=pick_dtype(device, dtype), device=device)
    if prompt == "-":
        prompt = sys.stdin.read()
    if json:
        _print_json(engine, prompt, settings, n)
    elif n == 1:
        _print_stream(engine, prompt, settings)
    else:
        _print_samples(engine, prompt, settings, n)


def _print_stream(engine: Engine, prompt: str, settings: SamplingSettings) -> None:
    from tinyslm.core.console import say, stream

    pieces = engine.stream(prompt, settings)
    first = next(pieces)
    stream(prompt + first.text)
    for piece in pieces:
        stream(piece.text)
    say()


def _print_samples(engine: Engine, prompt: str, settings: SamplingSettings, n: int) -> None:
    from tinyslm.core.console import say

    for number, completion in enumerate(engine.complete(prompt, settings, n), 1):
        say(f"--- sample {number} of {n} ---\n{prompt}{completion.text}\n")


def _print_json(engine: Engine, prompt: str, settings: SamplingSettings, n: int) -> None:
    from dataclasses import asdict
    from json import dumps

    from tinyslm.core.console import stream

    for completion in engine.complete(prompt, settings, n):
        stream(dumps({"prompt": prompt, **asdict(completion)}) + "\n")
