"""The stage distill_answers: learn a teacher's next-token distributions on the answers of conversations.

In a share of the batches, the student itself has sampled the answers (on-policy distillation, Agarwal et al., 2024):
the teacher then says what it would have written after the student's own words, mistakes included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from tinyslm.core.errors import TinyslmError
from tinyslm.data.examples import Example, Examples, RowLoader, open_examples, packed_rows
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.inference.batching import EngineOptions
from tinyslm.inference.engine import Engine
from tinyslm.inference.request import Request
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.decoder import Decoder
from tinyslm.model.lora import merged_copy
from tinyslm.model.loss import IGNORE
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.divergence import divergences
from tinyslm.training.stage import Batch
from tinyslm.training.stage_config import DistillConfig
from tinyslm.training.stages.distill_text import open_teacher
from tinyslm.training.stages.sft import Sft, batch_of
from tinyslm.training.world import World


@dataclass
class SampledBatches:
    """Batches of packed conversations; in a share of them, the model itself has sampled each last answer.

    row_tokens: of a row of sampled answers, at most. dtype: number format to sample in. Which batches are sampled and
    the seed of each answer depend only on the number of the batch and the prompts.
    """

    loader: RowLoader
    tokenizer: Tokenizer
    settings: DistillConfig
    row_tokens: int
    seed: int
    dtype: torch.dtype
    _number: int = field(default=0, init=False)

    def next(self, model: Decoder) -> Batch:
        """See `Batches.next`."""
        share, number = self.settings.on_policy, self._number
        sampled = int((number + 1) * share) > int(number * share)
        rows, self._number = self.loader.next(), number + 1
        batch = batch_of(self._sampled(model, rows) if sampled else rows)
        return replace(batch, metrics={"on_policy": float(sampled)} if share else {})

    def state(self) -> dict[str, Any]:
        """See `Batches.state`."""
        return {**self.loader.state(), "number": self._number}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Batches.restore`."""
        self.loader.restore(state)
        self._number = state["number"]

    def _sampled(self, model: Decoder, rows: Sequence[Sequence[Example]]) -> list[list[Example]]:
        """Rows with the same prompts and the model's own answers."""
        prompts = [example.prompt for row in rows for example in row]
        settings = [self._sampling(prompt, model.config.longest) for prompt in prompts]
        needed = sum(len(prompt) + one.max_tokens for prompt, one in zip(prompts, settings, strict=True))
        options = EngineOptions(cache_tokens=needed, max_waiting=len(prompts), guesses=0)
        engine = Engine(merged_copy(model, self.dtype), self.tokenizer, options)
        asked = [
            engine.submit(Request(tuple(prompt.tolist()), one, continues=False, heal=False))
            for prompt, one in zip(prompts, settings, strict=True)
        ]
        answers = [generation.whole()[0] for generation in asked]
        engine.close()
        made = []
        for prompt, answer in zip(prompts, answers, strict=True):
            written = answer.ids if answer.end is None else (*answer.ids, answer.end)
            ids = np.concatenate([prompt, np.array(written, np.int64)])
            made.append(Example(ids, np.arange(len(ids)) >= len(prompt)))
        packed = packed_rows([len(example.ids) - 1 for example in made], self.row_tokens)
        return [[made[index] for index in row] for row in packed]

    def _sampling(self, prompt: np.ndarray, longest: int) -> SamplingSettings:
        """The model's own distribution, without filters; the answer fits a row and the model."""
        room = min(self.settings.answer_tokens, self.row_tokens + 1 - len(prompt), longest - len(prompt))
        seed = xxhash.xxh3_64_intdigest(prompt.tobytes(), seed=self.seed * 1_000_003 + self._number) >> 1
        return SamplingSettings(max_tokens=max(1, room), temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed)


class DistillAnswers(Sft):
    """A `Stage` whose loss is the divergence of teacher and student on the assistant's tokens, in nats per token."""

    def __init__(
        self,
        held_out: Examples,
        tokenizer: Tokenizer,
        batches: SampledBatches,
        context: int,
        teacher: Decoder,
        settings: DistillConfig,
    ) -> None:
        super().__init__(held_out, tokenizer, batches, context, batches.dtype)
        self.teacher, self.settings = teacher.eval().requires_grad_(False), settings

    @classmethod
    def open(cls, data: Path, config: RunConfig, world: World) -> DistillAnswers:
        """Open the stage on an examples folder, with the teacher in `train.teacher`.

        Raises `TinyslmError` for another kind of folder, or a teacher that does not suit.
        """
        train, held_out, tokenizer = open_examples(data)
        teacher, loop = open_teacher(config, tokenizer), config.train
        longest = max(int(part.lengths.max()) for part in (train, held_out)) - 1
        if teacher.config.longest < longest:
            raise TinyslmError(
                f"The teacher in {loop.teacher} reads {teacher.config.longest} tokens, and an example has {longest}.",
                "Use a teacher with a longer context, or shorter examples.",
            )
        loader = RowLoader(
            train, context=config.row_tokens, batch=loop.batch, seed=loop.seed, rows=world.share(loop.batch)
        )
        dtype = pick_dtype(pick_device(loop.device), loop.dtype)
        batches = SampledBatches(loader, tokenizer, config.distill, config.row_tokens, loop.seed, dtype)
        return cls(held_out, tokenizer, batches, config.row_tokens, teacher, config.distill)

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, float, Mapping[str, float]]:
        """The weight is the number of learned tokens; only these reach the output projections."""
        learned = batch.targets != IGNORE
        return self._token_losses(model, batch, learned).sum(), float(learned.sum()), {}

    def score(self, model: Decoder, tokens: int, check: Callable[[], None]) -> Mapping[str, Any]:
        """The divergence on held-out answers, with a 95 % bootstrap interval over conversations."""
        found = super().score(model, tokens, check)
        return {name: value for name, value in found.items() if name != "perplexity"}

    def _token_losses(self, model: Decoder, batch: Batch, learned: Tensor) -> Tensor:
        # Without no_grad, so that both models use the same kernels; the frozen teacher keeps nothing for gradients.
        target_nd = self.teacher.model(batch.inputs, segments_bt=batch.segments)[learned]
        hidden_nd = model.model(batch.inputs, segments_bt=batch.segments)[learned]
        return divergences(model, self.teacher, hidden_nd, target_nd, self.settings)
