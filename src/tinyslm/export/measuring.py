"""The cost of a model: size, memory, speed of prefill and decoding, and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from pathlib import Path
from typing import Any, cast

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.protocols import Runtime, greedy
from tinyslm.evaluation.running import Subject
from tinyslm.evaluation.runtimes.endpoint import Endpoint
from tinyslm.evaluation.runtimes.model_folder import ModelRuntime
from tinyslm.evaluation.speed import tokens_per_second
from tinyslm.export.facts import as_counted
from tinyslm.export.opening import examine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.folder import find_model, read_card

DECODED = 32
"""Tokens to generate when measuring the speed of decoding."""
CACHE_TOKENS = 1024
READ_TOKENS = 128
FEW_PASSAGES = 8
"""How many prompts to try until the model does not end the text immediately."""
FP32 = 4
"""Bytes per value in the KV caches of llama.cpp and ONNX Runtime, with the settings used here."""


@dataclass(frozen=True)
class Cost:
    """The cost of a model; `None` for unknown figures.

    parameters: the number of weights; bytes: their size as stored; bits_per_weight: the mean over all weights. memory:
    bytes of the weights in memory and of the KV cache for `CACHE_TOKENS` tokens, or for the context if that is shorter.
    prefill, decode: tokens per second, reading and generating. training_tokens, training_seconds: of its run.
    """

    parameters: int | None = None
    bytes: int | None = None
    bits_per_weight: float | None = None
    memory: int | None = None
    prefill: float | None = None
    decode: float | None = None
    training_tokens: int | None = None
    training_seconds: float | None = None


def cost_of(
    subject: Subject, place: str | Path, kind: str, passages: Sequence[str], parameters: int | None = None
) -> Cost:
    """Measure the cost of an opened model.

    passages: the text to measure speed on. parameters: of an export, if known. For an endpoint, only the speed of
    decoding is known; it includes the time on the network.
    """
    if isinstance(subject.generator, Endpoint):
        return Cost(decode=_endpoint_speed(subject.generator, passages))
    path, tokens = Path(place), min(CACHE_TOKENS, subject.reading.max_length)
    training: Mapping[str, Any] = {}
    if isinstance(subject.scorer, ModelRuntime):
        model = subject.scorer.model
        folder = find_model(path)
        parameters, training = as_counted(folder, model.config).parameters, read_card(folder).get("training", {})
        stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        held = sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers()))
        cached = model.config.cached_values * next(model.parameters()).itemsize
    else:
        export = examine(path, kind)
        parameters, stored = export.values or parameters, export.bytes
        held, cached = stored, export.cached * FP32
    prefill, decode = _speeds(subject, passages)
    return Cost(
        parameters=parameters,
        bytes=stored,
        bits_per_weight=None if parameters is None else stored * 8 / parameters,
        memory=held + cached * tokens,
        prefill=prefill,
        decode=decode,
        training_tokens=training.get("training_tokens"),
        training_seconds=training.get("training_seconds"),
    )


def _speeds(subject: Subject, passages: Sequence[str]) -> tuple[float | None, float | None]:
    """Tokens per second, reading and generating."""
    runtime, room = cast("Runtime", subject.scorer), subject.reading.max_length
    ids = [found[: max(1, min(READ_TOKENS, room // 2))] for text in passages if (found := runtime.encode(text))]
    if not ids:
        return None, None
    fresh = cycle(ids)  # a passage that was just read may be cached

    def read() -> int:
        passage = next(fresh)
        greedy(runtime, passage, 1)
        return len(passage)

    def generating(begun: list[int]) -> float | None:
        return tokens_per_second(lambda: len(greedy(runtime, begun, max(1, min(DECODED, room - len(begun))))))

    begun = (some[: max(1, min(8, room // 2))] for some in ids[:FEW_PASSAGES])
    return tokens_per_second(read), next(filter(None, map(generating, begun)), None)


def _endpoint_speed(endpoint: Endpoint, passages: Sequence[str]) -> float | None:
    """Tokens per second of decoding; `None` for a server that cannot continue text."""
    settings = SamplingSettings(max_tokens=DECODED, temperature=0.0)
    try:
        return tokens_per_second(lambda: endpoint.answer(passages[0][:64], settings)[0].tokens)
    except TinyslmError:
        return None
