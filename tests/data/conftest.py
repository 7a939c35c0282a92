import random

import pytest

from tinyslm.data.documents import Tally
from tinyslm.tokenizer.training import train_tokenizer

WORDS = ("a cat", "the dog", "tree", "house", "river", "old", "young", "sees", "finds", "takes", "gives", "red", "blue")


def story(seed: int, words: int = 60) -> str:
    """A text that no other seed gives."""
    chosen = random.Random(seed)
    return " ".join([f"Story {seed}", *chosen.choices(WORDS, k=words), "."])


@pytest.fixture
def stories():
    """Makes texts: `stories(30)` are 30 different ones."""
    return lambda count, words=60, start=0: [story(seed, words) for seed in range(start, start + count)]


@pytest.fixture(scope="session")
def byte_tokenizer():
    return train_tokenizer([], kind="byte")


@pytest.fixture
def tally():
    return Tally()
