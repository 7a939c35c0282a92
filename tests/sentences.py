"""English-like text for tests."""

import random

WORDS = "the a cat dog tree house river old young sees finds takes gives red blue under over and then"


def sentences(number: int, seed: int = 0) -> str:
    """So many lines of it, different for each seed."""
    chosen = random.Random(seed)
    return "".join(" ".join(chosen.choices(WORDS.split(), k=12)) + ".\n" for _ in range(number))
