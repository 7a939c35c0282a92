"""What a model costs: its size, the memory it takes, how fast it reads and writes, and what its training took."""

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
from tinyslm.export.opening import weights_of
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.config import ModelConfig
from tinyslm.model.folder import find_model, read_card

DECODED = 32
"""Tokens that are generated to measure how fast that goes."""
CACHE_TOKENS = 1024
READ_TOKENS = 128
FEW_PASSAGES = 8
"""Beginnings that are tried until a model does not end the text at once."""
FP32 = 4
"""Bytes of a value in the caches of llama.cpp and ONNX Runtime as they are run here."""


@dataclass(frozen=True)
class Cost:
    """What is known of a model's cost; `None` for what is not.

    parameters: how many weights; bytes: these as stored; bits_per_weight: over all of them. memory: bytes of the
    weights as they lie in memory and of the cache of `CACHE_TOKENS` tokens, or of the context where that is shorter.
    prefill and decode: tokens per second, reading and generating. training_tokens, training_seconds: of its run.
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
    """The cost of an opened model. passages: to measure its speed on. parameters: of an export, where they are known.

    Of an endpoint, only the speed of generating is known, with the time on the way.
    """
    if isinstance(subject.generator, Endpoint):
        return Cost(decode=_endpoint_speed(subject.generator, passages))
    path, tokens = Path(place), min(CACHE_TOKENS, subject.reading.room)
    training: Mapping[str, Any] = {}
    if isinstance(subject.scorer, ModelRuntime):
        model = subject.scorer.model
        parameters, training = model.config.parameters, read_card(find_model(path)).get("training", {})
    weights = weights_of(path, kind, parameters)
    if isinstance(subject.scorer, ModelRuntime):
        held = sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers()))
        cached = _cached_values(model.config) * next(model.parameters()).itemsize
    else:
        held, cached = weights.bytes, _exported_cache(path, kind) * FP32
    prefill, decode = _speeds(subject, passages)
    return Cost(
        parameters=weights.values,
        bytes=weights.bytes,
        bits_per_weight=weights.bits_per_weight,
        memory=held + cached * tokens,
        prefill=prefill,
        decode=decode,
        training_tokens=training.get("training_tokens"),
        training_seconds=training.get("training_seconds"),
    )


def _exported_cache(path: Path, kind: str) -> int:
    """Values that are kept of each token: keys and values of all blocks."""
    if kind == "gguf":
        from tinyslm.export.gguf.importing import read_source

        return _cached_values(read_source(path).config)
    from tinyslm.export.onnx.genai import read_config

    decoder = read_config(path).decoder
    return 2 * decoder.num_hidden_layers * decoder.num_key_value_heads * decoder.head_size


def _cached_values(config: ModelConfig) -> int:
    return 2 * config.depth * config.kv_heads * config.head_dim


def _speeds(subject: Subject, passages: Sequence[str]) -> tuple[float | None, float | None]:
    """Tokens per second, reading and generating."""
    runtime, room = cast("Runtime", subject.scorer), subject.reading.room
    ids = [found[: max(1, min(READ_TOKENS, room // 2))] for text in passages if (found := runtime.encode(text))]
    if not ids:
        return None, None
    fresh = cycle(ids)  # a passage that was just read may be remembered

    def read() -> int:
        passage = next(fresh)
        greedy(runtime, passage, 1)
        return len(passage)

    def generating(begun: list[int]) -> float | None:
        return tokens_per_second(lambda: len(greedy(runtime, begun, max(1, min(DECODED, room - len(begun))))))

    begun = (some[: max(1, min(8, room // 2))] for some in ids[:FEW_PASSAGES])
    return tokens_per_second(read), next(filter(None, map(generating, begun)), None)


def _endpoint_speed(endpoint: Endpoint, passages: Sequence[str]) -> float | None:
    """Tokens per second, generating; `None` for a server that continues no texts."""
    settings = SamplingSettings(max_tokens=DECODED, temperature=0.0)
    try:
        return tokens_per_second(lambda: endpoint.answer(passages[0][:64], settings)[0].tokens)
    except TinyslmError:
        return None
