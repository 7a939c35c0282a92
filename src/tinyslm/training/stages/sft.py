"""The stage sft, supervised fine-tuning: learn the assistant's messages of conversations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tinyslm.data.examples import Example, Examples, RowLoader, arrays_of, open_examples, packed_rows
from tinyslm.evaluation.intervals import ratio_interval
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.inference.engine import Engine
from tinyslm.inference.request import Request
from tinyslm.inference.runners import make_runner
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.decoder import Decoder
from tinyslm.model.loss import IGNORE, log_probs, loss_sum, token_losses
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.replay import FOLDER, Replay
from tinyslm.training.stage import PER_EXAMPLE, Batch, Batches, Question
from tinyslm.training.world import World

SAMPLE_TOKENS = 64
LARGEST_EXPONENT = 700.0
AT_ONCE = 2048
"""Tokens per forward pass without gradients."""


class ConversationBatches:
    """Batches of packed conversations, perhaps with rows of general text."""

    def __init__(
        self,
        examples: Examples,
        *,
        context: int,
        batch: int,
        seed: int,
        world: World,
        replay: Replay | None = None,
    ) -> None:
        self.loader = RowLoader(examples, context=context, batch=batch, seed=seed)
        self._batch, self._rows, self._replay = batch, world.share(batch), replay

    def next(self, model: Decoder) -> Batch:  # noqa: ARG002
        """See `Batches.next`."""
        replayed = self._replay.next() if self._replay else []
        return batch_of([*self.loader.next(self._batch - len(replayed)), *replayed][self._rows])

    def state(self) -> dict[str, Any]:
        """See `Batches.state`."""
        return self.loader.state() | ({FOLDER: self._replay.state()} if self._replay else {})

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Batches.restore`."""
        self.loader.restore(state)
        if self._replay:
            self._replay.restore(state[FOLDER])


class Sft:
    """A `Stage` whose loss is the cross-entropy of the assistant's tokens, in nats per token.

    dtype: number format of the score. dft: each token's cross-entropy is multiplied by its probability, which has no
    gradient (dynamic fine-tuning, Wu et al., 2025). This loss is also small where the model finds the answers
    improbable, so validations and the score are always cross-entropy.
    """

    def __init__(
        self,
        held_out: Examples,
        tokenizer: Tokenizer,
        batches: Batches,
        context: int,
        dtype: torch.dtype,
        *,
        dft: bool = False,
    ) -> None:
        self.tokenizer, self.batches, self.context = tokenizer, batches, context
        self._held_out, self._dtype, self._dft = held_out, dtype, dft

    @classmethod
    def open(cls, data: Path, config: RunConfig, world: World) -> Sft:
        """Open the stage on an examples folder. Raises `TinyslmError` for another kind of folder."""
        train, held_out, tokenizer = open_examples(data)
        context, loop = config.row_tokens, config.train
        shape: dict[str, int] = {"context": context, "batch": loop.batch, "seed": loop.seed}
        replay = Replay(data, share=config.replay.share, **shape) if config.replay.share else None
        batches = ConversationBatches(train, world=world, replay=replay, **shape)
        dtype = pick_dtype(pick_device(loop.device), loop.dtype)
        return cls(held_out, tokenizer, batches, context, dtype, dft=config.sft.loss == "dft")

    @property
    def held_out_tokens(self) -> int:
        """See `Stage`."""
        return int(self._held_out.lengths.sum())

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, float, Mapping[str, float]]:
        """The weight is the number of learned tokens; only these reach the output projection."""
        hidden_btd = model.model(batch.inputs, segments_bt=batch.segments)
        learned = batch.targets != IGNORE
        hidden_nd, targets_n, weight = hidden_btd[learned], batch.targets[learned], float(learned.sum())
        if not self._dft:
            return loss_sum(model, hidden_nd, targets_n), weight, {}
        found_n = log_probs(model, hidden_nd, targets_n)
        return -(found_n * found_n.detach().exp()).sum(), weight, {"cross_entropy": -found_n.mean().item()}

    @torch.no_grad()
    def validate(self, model: Decoder, dtype: torch.dtype, tokens: int) -> float:
        """See `Stage.validate`; uses conversations spread evenly over the held-out ones."""
        totals, weights = self._losses(model.eval(), dtype, self._spread(tokens), lambda: None)
        return float(totals.sum() / weights.sum())

    def in_units(self, loss: float, *, held_out: bool) -> Mapping[str, float]:  # noqa: ARG002
        """A loss per learned token has no other unit."""
        return {}

    def warnings(self, metrics: Mapping[str, float]) -> Sequence[str]:  # noqa: ARG002
        """There are none."""
        return ()

    def sample(self, model: Decoder, seed: int) -> str:
        """The model's answer to the first question of the first held-out conversation."""
        return answer(model, self.tokenizer, self._held_out[0], seed, self._dtype)

    def score(self, model: Decoder, tokens: int, check: Callable[[], None]) -> Mapping[str, Any]:
        """Loss and perplexity of held-out answers, with a 95 % bootstrap interval of the loss over conversations.

        In the number format of the run.
        """
        with torch.no_grad():
            totals, weights = self._losses(model.eval(), self._dtype, self._spread(tokens), check)
        loss = float(totals.sum() / weights.sum())
        low, high = ratio_interval(totals, weights)
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, LARGEST_EXPONENT)),
            "low": low,
            "high": high,
            "conversations": len(totals),
            "tokens": int(weights.sum()),
            PER_EXAMPLE: {"losses": totals.tolist(), "weights": weights.tolist()},
        }

    def questions(self, count: int) -> list[Question]:
        """See `Asking`."""
        return held_out_questions(self._held_out, self.tokenizer, count)

    def _spread(self, tokens: int) -> list[int]:
        """Indices of held-out conversations with about `tokens` tokens in total."""
        return spread(len(self._held_out), tokens / max(1, self.held_out_tokens))

    def _losses(
        self, model: Decoder, dtype: torch.dtype, numbers: Sequence[int], check: Callable[[], None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The summed loss of each conversation, and its number of learned tokens."""
        examples = [self._held_out[number] for number in numbers]
        totals, weights = np.zeros(len(numbers)), np.zeros(len(numbers))
        packed = packed_rows([len(example.ids) - 1 for example in examples], self.context)
        size = max(1, AT_ONCE // self.context)
        for part in (packed[start : start + size] for start in range(0, len(packed), size)):
            check()
            batch = batch_of([[examples[index] for index in row] for row in part]).to(model.device)
            learned = batch.targets != IGNORE
            with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
                losses = self._token_losses(model, batch, learned)
            owners = np.concatenate(
                [np.repeat(index, examples[index].learned[1:].sum()) for row in part for index in row]
            )
            np.add.at(totals, owners, losses.double().cpu().numpy())
            np.add.at(weights, owners, 1)
        return totals, weights

    def _token_losses(self, model: Decoder, batch: Batch, learned: Tensor) -> Tensor:
        """The loss of each learned token, `[n]`."""
        hidden_btd = model.model(batch.inputs, segments_bt=batch.segments)
        return token_losses(model, hidden_btd[learned], batch.targets[learned])


def spread(count: int, share: float) -> list[int]:
    """Indices of this share of `count` items, at least one and at most all, spread evenly."""
    wanted = max(1, round(count * min(1.0, share)))
    return [index * count // wanted for index in range(wanted)]


def answer(model: Decoder, tokenizer: Tokenizer, example: Example, seed: int, dtype: torch.dtype) -> str:
    """The model's own most probable answer to the prompt of an example, computed in `dtype`."""
    prompt = tuple(example.ids[: int(np.argmax(example.learned))].tolist())
    room = max(1, min(SAMPLE_TOKENS, model.config.longest - len(prompt) - 1))
    settings = SamplingSettings(max_tokens=room, temperature=0.0, seed=seed)
    engine = Engine(model, tokenizer, runner=partial(make_runner, dtype=dtype))
    return engine.submit(Request(prompt, settings, continues=False)).whole()[0].text


def held_out_questions(held_out: Examples, tokenizer: Tokenizer, count: int) -> list[Question]:
    """At most `count` questions of held-out groups, spread evenly; the prompt is what precedes the last answer."""
    if not held_out.origins:
        return []
    asked = []
    for number in spread(held_out.groups, count / held_out.groups):
        index = number * held_out.together
        example, origin = held_out[index], held_out.origins[index]
        prompt = example.prompt.tolist()
        ids = example.ids[len(prompt) :].tolist()
        reference = tokenizer.decode([one for one in ids if one not in tokenizer.stop_ids]).strip()
        asked.append(Question(tuple(prompt), origin["row"], origin["asked"], reference))
    return asked


def batch_of(rows: Sequence[Sequence[Example]]) -> Batch:
    """Packed rows as a batch."""
    inputs, targets, segments = (torch.from_numpy(one) for one in arrays_of(rows))
    return Batch(inputs, targets, segments)
