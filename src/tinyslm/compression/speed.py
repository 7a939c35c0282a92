"""The speed of models: prefill of a prompt, and decoding."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from tinyslm.inference.runner import Rows
from tinyslm.inference.runners import make_runner
from tinyslm.model.decoder import Decoder

ROUNDS = 5
PROMPT, NEW = 128, 32


@dataclass(frozen=True)
class Speed:
    """Tokens per second: `prefill` of a prompt, and `decode`, one token after the other."""

    prefill: float
    decode: float


def measure(models: Sequence[Decoder], ids: Sequence[int]) -> list[Speed]:
    """Each model's speed on the same tokens: a prompt of 128 and 32 more, or fewer in a short context.

    The models alternate, so a disturbance affects all of them. The first round is a warm-up; the result is the median
    of the others.
    """
    context = models[0].config.context
    prompt = min(PROMPT, context // 2, len(ids) - 2)
    new = min(NEW, context - prompt, len(ids) - prompt)
    runs = [_reader(model, ids[:prompt], ids[prompt : prompt + new]) for model in models]
    times: list[list[tuple[float, float]]] = [[] for _ in models]
    for number in range(ROUNDS + 1):
        for run, seconds in zip(runs, times, strict=True):
            measured = run()
            if number:
                seconds.append(measured)
    return [
        Speed(prompt / median(first for first, _ in seconds), new / median(rest for _, rest in seconds))
        for seconds in times
    ]


def _reader(model: Decoder, prompt: Sequence[int], new: Sequence[int]) -> Callable[[], tuple[float, float]]:
    """Seconds for the prompt, and for the new tokens, computed as the engine does for one sequence."""
    blocks = (len(prompt) + len(new)) // 16 + 1
    runner = make_runner(model, blocks)

    def read(ids: Sequence[int], start: int) -> None:
        count = len(ids)
        runner.run(
            Rows(
                ids=np.array(ids, np.int32),
                positions=np.arange(start, start + count, dtype=np.int32),
                sequences=np.zeros(count, np.int32),
                tables=np.arange(blocks, dtype=np.int32)[None],
                wanted=np.array([count - 1], np.int32),
            )
        )

    def run() -> tuple[float, float]:
        start = time.perf_counter()
        read(prompt, 0)
        middle = time.perf_counter()
        for place, token in enumerate(new, len(prompt)):
            read([token], place)
        return middle - start, time.perf_counter() - middle

    return run
