"""Small built-in sets, so that every kind of task works offline.

They are too small to rank models, and their texts are public: they show whether a model has a capability at all.
"""

from __future__ import annotations

from pathlib import Path

from tinyslm.evaluation.tasks.generated import GENERATION, TOOL_CALLS
from tinyslm.evaluation.tasks.scored import BITS_PER_BYTE, CHOICE, LAST_WORD, PAIRS
from tinyslm.evaluation.tasks.task_config import TaskConfig
from tinyslm.inference.settings import SamplingSettings

SETS = Path(__file__).parent.parent / "sets"


def _greedy(max_tokens: int, *stop: str) -> SamplingSettings:
    return SamplingSettings(temperature=0.0, max_tokens=max_tokens, stop=stop)


SHIPPED: dict[str, TaskConfig] = {
    "grammar": TaskConfig(PAIRS, file="grammar.jsonl", about="English grammar: 12 kinds of minimal pairs"),
    "everyday": TaskConfig(
        CHOICE,
        file="everyday.jsonl",
        options={"prompt": "Question: {question}\nAnswer:"},
        about="what a child knows about home, food, animals, numbers",
    ),
    "last_words": TaskConfig(LAST_WORD, file="last_words.jsonl", about="the last word of a passage that determines it"),
    "texts": TaskConfig(BITS_PER_BYTE, file="texts.jsonl", about="prose, code, and numbers"),
    "arithmetic": TaskConfig(
        GENERATION,
        file="arithmetic.jsonl",
        options={"grader": "numeric", "prompt": "Question: {question}\nAnswer:"},
        sampling=_greedy(48, "\n"),
        about="sums, products, word problems",
    ),
    "extraction": TaskConfig(
        GENERATION,
        file="extraction.jsonl",
        options={"grader": "json", "prompt": "Text: {text}\nWrite these fields as JSON: {fields}\nJSON:"},
        sampling=_greedy(120, "\nText:"),
        about="fields of a sentence as JSON",
    ),
    "instructions": TaskConfig(
        GENERATION,
        file="instructions.jsonl",
        options={"grader": "instructions", "chat": True},
        sampling=_greedy(200),
        about="instructions that a program can check",
    ),
    "functions": TaskConfig(
        GENERATION,
        file="functions.jsonl",
        options={"grader": "python", "prompt": "{entry}"},
        sampling=_greedy(160, "\ndef ", "\nclass ", "\nif __name__", "\nprint("),
        about="Python functions, which are executed",
    ),
    "tool_calls": TaskConfig(
        TOOL_CALLS,
        file="tool_calls.jsonl",
        sampling=_greedy(120),
        about="which of four tools to call, and with which arguments",
    ),
}
"""The built-in sets by name."""
