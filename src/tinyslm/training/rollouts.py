"""Answers that a model in training samples, and their grades."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.data.prompts import Prompt
from tinyslm.evaluation.graders import FAILED, Grade, Grader
from tinyslm.inference.batching import EngineOptions
from tinyslm.inference.engine import Engine
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.output_constraint import constraint_from_options
from tinyslm.inference.request import Completion, Request
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.decoder import Decoder
from tinyslm.model.lora import merged_copy
from tinyslm.tokenizer.tokenizer import Tokenizer

CACHED_ANSWERS = 64
"""The engine's cache has room for this many answers of full length; more wait for a place."""


@dataclass
class Sampler:
    """Samples answers with the weights that a model in training has now.

    row_tokens: of a prompt with its answer, at most. dtype: number format to compute in. grammar: what every answer
    must look like.
    """

    tokenizer: Tokenizer
    row_tokens: int
    dtype: torch.dtype
    grammar: Grammar | None = None
    _engine: Engine | None = field(default=None, init=False)

    def load(self, model: Decoder) -> None:
        """Use the weights of this model, its adapters included, from now on."""
        weights = merged_copy(model, self.dtype)
        if self._engine is None:
            options = EngineOptions(cache_tokens=CACHED_ANSWERS * self.row_tokens, max_waiting=2**20)
            self._engine = Engine(weights, self.tokenizer, options)
        else:
            self._engine.load_weights(weights)

    def answers(
        self, prompts: Sequence[Prompt], count: int, settings: SamplingSettings, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        """`count` answers to each prompt, drawn from a generator for each prompt with its seed."""
        assert self._engine is not None, "no weights have been loaded"
        made = [
            self._engine.submit(
                Request(prompt.ids, settings.model_copy(update={"seed": seed}), count, self.grammar, continues=False)
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return [generation.whole() for generation in made]


def plain_sampling(max_tokens: int, temperature: float) -> SamplingSettings:
    """Sampling from the model's own distribution, without filters."""
    return SamplingSettings(max_tokens=max_tokens, temperature=temperature, top_k=0, top_p=1.0, min_p=0.0)


def learned_ids(completion: Completion) -> tuple[int, ...]:
    """The tokens that the model chose: those of the answer, and the one that ended it."""
    return completion.ids if completion.end is None else (*completion.ids, completion.end)


def read_grammar(path: str, tokenizer: Tokenizer) -> Grammar | None:
    """The grammar of a file: a JSON schema (.json) or a Lark grammar. Raises `TinyslmError` for an invalid one."""
    if not path:
        return None
    is_schema = Path(path).suffix == ".json"
    constraint = constraint_from_options(schema=path) if is_schema else constraint_from_options(grammar=path)
    assert constraint is not None
    return constraint.compile(tokenizer)


PATIENCE = 10.0


def grade_all(grader: Grader, asked: Iterable[tuple[Mapping[str, Any], str]]) -> list[Grade]:
    """The grades of answers to examples; 0 with the reason where the grader fails in whatever way.

    A grader that fails slowly, because it hangs or dies, is not asked again after `PATIENCE` seconds of that.
    """
    grades: list[Grade] = []
    lost = 0.0
    for example, answer in asked:
        if lost > PATIENCE:
            grades.append(Grade(0.0, {FAILED: 1.0}, "the grader has failed too slowly before"))
            continue
        begun = time.monotonic()
        try:
            grades.append(grader(example, answer))
        except TinyslmError as error:
            grades.append(Grade(0.0, {FAILED: 1.0}, error.problem))
        if FAILED in grades[-1].parts:
            lost += time.monotonic() - begun
    return grades


def advantages(rewards: Sequence[float], *, scaled: bool) -> list[float]:
    """How much better each reward of a group is than their mean; scaled: in standard deviations (Shao et al., 2024).

    All are 0 if the rewards are equal.
    """
    mean = sum(rewards) / len(rewards)
    above = [reward - mean for reward in rewards]
    if max(rewards) == min(rewards):
        return [0.0] * len(rewards)
    deviation = math.sqrt(sum(one * one for one in above) / (len(above) - 1))
    return [one / (deviation + 1e-4) for one in above] if scaled else above
