"""What the worker process of `test_grammar_fuzz.py` runs: the grammar that a seed makes, compiled and followed."""

import random
from functools import cache

from generated_grammars import follow, generated

from tinyslm.core.errors import TinyslmError
from tinyslm.inference import grammar_completion
from tinyslm.inference.grammar import Grammar
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer

grammar_completion._MOST_PLACES = 30  # the search for a short text takes most of the time, and is the same for all


def answer(request: dict) -> dict:
    kind, value = generated(request["seed"])
    try:
        grammar = getattr(Grammar, kind)(value, tokenizer())
        follow(grammar, random.Random(request["seed"]))
    except TinyslmError as error:
        return {"refused": error.problem, "remedy": error.remedy}
    return {}


@cache
def tokenizer() -> Tokenizer:
    return train_tokenizer([], kind="byte")
