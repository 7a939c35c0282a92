"""Tokens per second of anything that reads or generates tokens."""

import time
from collections.abc import Callable

ROUNDS = 3
LEAST = 4
"""Fewer tokens than this say nothing about speed."""


def tokens_per_second(work: Callable[[], int]) -> float | None:
    """The best rate of three rounds of `work`, which returns how many tokens it handled; `None` where these are few."""
    rates = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        if (tokens := work()) < LEAST:
            return None
        rates.append(tokens / (time.perf_counter() - begun))
    return max(rates)
