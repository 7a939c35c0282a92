"""The engine: requests in, tokens out. Several samples of one prompt run as one batch and share its prefill."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.cache import KVCache
from tinyslm.inference.sampling import choose
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.step import NumpyStep, suits
from tinyslm.inference.stop import StopStrings
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer
from tinyslm.tokenizer.stream import TextStream
from tinyslm.tokenizer.tokenizer import Tokenizer

Finish = Literal["", "stop", "length"]
Step = Callable[[Sequence[int], KVCache], Tensor]
"""Takes in one more token of each sequence; returns logits `[b, v]`."""


@dataclass(frozen=True)
class Piece:
    """Some more of one sample: its number, the text that is certain now, and at its end why it ended.

    finish: "stop" (an end token or a stop string), "length" (`max_tokens`), or "" while it goes on.
    """

    sample: int
    text: str
    tokens: int
    finish: Finish


@dataclass(frozen=True)
class Completion:
    """A whole generated text: why it ended, and how many tokens were generated for it."""

    text: str
    finish: Finish
    tokens: int


@dataclass
class _Sample:
    """One text in the making."""

    number: int
    ids: list[int]
    stream: TextStream
    stop: StopStrings
    generator: torch.Generator
    generated: int = 0
    finish: Finish = ""


@dataclass
class Engine:
    """Generates text with a model and its tokenizer."""

    model: Decoder
    tokenizer: Tokenizer

    @classmethod
    def load(
        cls, folder: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> "Engine":
        """An engine for a model folder."""
        return cls(load_model(folder, dtype=dtype, device=device), load_tokenizer(folder))

    def complete(self, prompt: str, settings: SamplingSettings | None = None, n: int = 1) -> list[Completion]:
        """`n` continuations of `prompt`, as a list."""
        texts, ends = [""] * n, [Completion("", "", 0)] * n
        for piece in self.stream(prompt, settings, n):
            texts[piece.sample] += piece.text
            ends[piece.sample] = Completion(texts[piece.sample], piece.finish, piece.tokens)
        return ends

    def stream(self, prompt: str, settings: SamplingSettings | None = None, n: int = 1) -> Iterator[Piece]:
        """`n` continuations of `prompt`, piece by piece as they come; an empty prompt starts a new document.

        Sample `i` draws from a generator seeded with `seed + i`. When the context is full, its older half is
        forgotten. Raises `TinyslmError` when the prompt alone does not fit the context.
        """
        settings = settings or SamplingSettings()
        prompt_ids = [*self.tokenizer.start_ids, *self.tokenizer.encode(prompt)] or [self.tokenizer.eos_id]
        context = self.model.config.longest
        if len(prompt_ids) >= context:
            raise TinyslmError(
                f"The prompt has {len(prompt_ids)} tokens; this model's context is {context}.",
                f"Shorten the prompt to at most {context - 1} tokens.",
            )
        yield from self._generate(prompt_ids, settings, n)

    def _generate(self, prompt_ids: list[int], settings: SamplingSettings, n: int) -> Iterator[Piece]:
        samples = self._samples(prompt_ids, settings, n)
        step = NumpyStep(self.model) if suits(self.model, n) else self._step
        room = min(self.model.config.longest, len(prompt_ids) + settings.max_tokens)
        cache, logits_bv = self._prefill([prompt_ids], room)
        if n > 1:
            rows = torch.zeros(n, dtype=torch.long, device=logits_bv.device)
            cache.select(rows)
            logits_bv = logits_bv[rows]
        while samples:
            for sample, logits_v in zip(samples, logits_bv, strict=True):
                yield self._advance(sample, logits_v, settings)
            going = [row for row, sample in enumerate(samples) if not sample.finish]
            if len(going) < len(samples):
                samples = [samples[row] for row in going]
                cache.select(torch.tensor(going, dtype=torch.long, device=logits_bv.device))
            if samples:
                cache, logits_bv = self._next(samples, cache, step)

    def _samples(self, prompt_ids: list[int], settings: SamplingSettings, n: int) -> list[_Sample]:
        seed = secrets.randbits(48) if settings.seed is None else settings.seed
        device = self.model.device
        return [
            _Sample(
                number,
                list(prompt_ids),
                TextStream(self.tokenizer, continues=len(prompt_ids) > len(self.tokenizer.start_ids)),
                StopStrings(settings.stop),
                torch.Generator(device).manual_seed(seed + number),
            )
            for number in range(n)
        ]

    def _advance(self, sample: _Sample, logits_v: Tensor, settings: SamplingSettings) -> Piece:
        """Choose a sample's next token and take it in."""
        token = choose(logits_v, sample.ids, settings, sample.generator)
        sample.generated += 1
        text = ""
        if token in self.tokenizer.stop_ids:
            sample.finish = "stop"
        else:
            sample.ids.append(token)
            text = sample.stop.push(sample.stream.push(token))
            if sample.stop.found:
                sample.finish = "stop"
            elif sample.generated == settings.max_tokens:
                sample.finish = "length"
        if sample.finish:
            text += sample.stop.push(sample.stream.flush()) + sample.stop.flush()
        return Piece(sample.number, text, sample.generated, sample.finish)

    def _next(self, samples: list[_Sample], cache: KVCache, step: Step) -> tuple[KVCache, Tensor]:
        """Logits for each sample's next token; starts a new cache on the newer half when the context is full."""
        if cache.length == self.model.config.longest:
            keep = self.model.config.longest // 2
            return self._prefill([sample.ids[-keep:] for sample in samples], self.model.config.longest)
        return cache, step([sample.ids[-1] for sample in samples], cache)

    def _step(self, ids: Sequence[int], cache: KVCache) -> Tensor:
        return self._forward([[token] for token in ids], cache)

    def _prefill(self, ids: list[list[int]], room: int) -> tuple[KVCache, Tensor]:
        """A cache with room for so many tokens that has taken in `ids`, and the logits after the last of them."""
        self.model.eval()
        cache = KVCache(self.model.config, len(ids), room, self.model.dtype, self.model.device)
        return cache, self._forward(ids, cache)

    @torch.inference_mode()
    def _forward(self, ids: list[list[int]], cache: KVCache) -> Tensor:
        """Logits `[b, v]` after the last of the new tokens."""
        hidden_btd = self.model.model(torch.tensor(ids, device=self.model.device), cache)
        return self.model.logits(hidden_btd[:, -1])
