"""The speed of a model: prefill of a prompt, and decoding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyslm.evaluation.speed import tokens_per_second
from tinyslm.inference.runner import Rows
from tinyslm.inference.runners import make_runner
from tinyslm.model.decoder import Decoder

PROMPT, NEW = 128, 32


@dataclass(frozen=True)
class Throughput:
    """Tokens per second: `prefill` of a prompt, and `decode`, one token after the other; `None`: too few tokens."""

    prefill: float | None
    decode: float | None


def throughput(model: Decoder, ids: Sequence[int]) -> Throughput:
    """The speed on a prompt of 128 of these tokens and 32 more, or fewer in a short context, as in the engine."""
    context = model.config.context
    prompt = min(PROMPT, context // 2, len(ids) - 2)
    end = min(prompt + NEW, context, len(ids))
    blocks = end // 16 + 1
    runner = make_runner(model, blocks)

    def read(start: int, stop: int) -> int:
        runner.run(
            Rows(
                ids=np.array(ids[start:stop], np.int32),
                positions=np.arange(start, stop, dtype=np.int32),
                sequences=np.zeros(stop - start, np.int32),
                tables=np.arange(blocks, dtype=np.int32)[None],
                wanted=np.array([stop - start - 1], np.int32),
            )
        )
        return stop - start

    return Throughput(
        prefill=tokens_per_second(lambda: read(0, prompt)),
        decode=tokens_per_second(lambda: sum(read(place, place + 1) for place in range(prompt, end))),
    )
