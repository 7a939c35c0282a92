"""Predict each next token of a text."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinyslm.data.loader import Loader
from tinyslm.data.shards import Shards, TokenSplit
from tinyslm.evaluation.loss import document_losses, mean_loss
from tinyslm.inference.engine import Engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.decoder import Decoder
from tinyslm.model.loss import loss_sum
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.stage import PER_EXAMPLE, Batch
from tinyslm.training.validation import even_windows, spread_documents
from tinyslm.training.world import World

SAMPLE_TOKENS = 64


class WindowBatches:
    """Windows of a split's tokens as batches. Their order depends on the seed, and not on the number of processes."""

    def __init__(self, split: TokenSplit, *, context: int, batch: int, seed: int, world: World) -> None:
        """batch: windows in one update, of all processes together. Raises `TinyslmError` for too little text."""
        self._loader = Loader(split, context=context, batch=batch, seed=seed, rows=world.share(batch))

    def next(self, model: Decoder) -> Batch:  # noqa: ARG002
        """See `Batches.next`."""
        return Batch.of_windows(torch.from_numpy(self._loader.next()))

    def state(self) -> dict[str, Any]:
        """See `Batches.state`."""
        return self._loader.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Batches.restore`."""
        self._loader.restore(dict(state))


class Pretrain:
    """Cross-entropy of every token of a text, given the ones before it. A `Stage`."""

    def __init__(
        self, train: TokenSplit, held_out: TokenSplit, tokenizer: Tokenizer, batches: WindowBatches, context: int
    ) -> None:
        """train: the text that `batches` come from. context: tokens of a row."""
        even_windows(held_out, context, 1)  # raises now if there is too little
        self.tokenizer = tokenizer
        self.batches = batches
        self.context = context
        self._train, self._held_out = train, held_out

    @classmethod
    def open(cls, data: Path, config: RunConfig, world: World) -> "Pretrain":
        """The stage on a shards folder. Raises `TinyslmError` for too little text."""
        return cls(*text_parts(data, config, world))

    @property
    def held_out_tokens(self) -> int:
        """See `Stage`."""
        return self._held_out.tokens

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, float, Mapping[str, float]]:
        """See `next_token_loss`."""
        return next_token_loss(model, batch)

    def validate(self, model: Decoder, dtype: torch.dtype, tokens: int) -> float:
        """See `Stage.validate`; over windows that are spread evenly."""
        return mean_loss(model, self._windows(model, tokens), dtype)

    def in_units(self, loss: float, *, held_out: bool) -> Mapping[str, float]:
        """Bits per byte of the text."""
        split = self._held_out if held_out else self._train
        return {"bits_per_byte": loss / math.log(2) * split.tokens / split.utf8_bytes}

    def warnings(self, metrics: Mapping[str, float]) -> Sequence[str]:  # noqa: ARG002
        """There are none."""
        return ()

    def sample(self, model: Decoder, seed: int) -> str:
        """See `Stage.sample`."""
        settings = SamplingSettings(max_tokens=SAMPLE_TOKENS, seed=seed)
        return Engine(model, self.tokenizer).complete("", settings)[0].text

    def score(self, model: Decoder, tokens: int, check: Callable[[], None]) -> Mapping[str, Any]:
        """The fields of `evaluation.loss.Score`, over whole documents that are spread evenly."""

        def documents() -> Any:
            for document in spread_documents(self._held_out, tokens):
                check()
                yield document

        losses = document_losses(model, documents(), end_id=self.tokenizer.eos_id)
        return {**asdict(losses.score()), PER_EXAMPLE: losses.per_example()}

    def _windows(self, model: Decoder, tokens: int) -> Tensor:
        return even_windows(self._held_out, self.context, tokens).to(model.device)


def next_token_loss(model: Decoder, batch: Batch) -> tuple[Tensor, float, Mapping[str, float]]:
    """Cross-entropy, where every target counts; the weight is their number."""
    hidden_nd = model.model(batch.inputs).flatten(0, 1)
    return loss_sum(model, hidden_nd, batch.targets.flatten()), float(batch.targets.numel()), {}


def text_parts(
    data: Path, config: RunConfig, world: World
) -> tuple[TokenSplit, TokenSplit, Tokenizer, WindowBatches, int]:
    """What a stage on text is made of, from a shards folder and the settings of a run."""
    shards = Shards.open(data, verify=False)
    train, held_out = shards.split("train"), shards.split("valid")
    context, batch = config.row_tokens, config.train.batch
    batches = WindowBatches(train, context=context, batch=batch, seed=config.train.seed, world=world)
    return train, held_out, shards.tokenizer, batches, context
