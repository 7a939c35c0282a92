"""Ways to generate text that `engines.py` compares: our engines, llama.cpp by itself, and transformers."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import torch

from tinyslm import Engine, Request, SamplingSettings

NEVER = -1e4
Prompts = Sequence[Sequence[int]]


class Way(Protocol):
    """A contender. All of them decode greedily."""

    def seconds(self, prompts: Prompts, tokens: int) -> float:
        """For continuing all these prompts by exactly so many tokens, side by side."""

    def answer(self, prompt: Sequence[int], limit: int) -> float:
        """Decoded tokens per second of one text that ends where the model ends it, without reading the prompt."""


class Ours:
    """One of our engines."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._ends = dict.fromkeys(engine.tokenizer.stop_ids, NEVER)

    def seconds(self, prompts: Prompts, tokens: int) -> float:
        """See `Way`."""
        settings = SamplingSettings(temperature=0, max_tokens=tokens)
        begun = time.perf_counter()
        generations = [self.engine.submit(Request(tuple(ids), settings, bias=self._ends)) for ids in prompts]
        for generation in generations:
            (completion,) = generation.whole()
            assert completion.tokens == tokens, completion
        return time.perf_counter() - begun

    def answer(self, prompt: Sequence[int], limit: int) -> float:
        """See `Way`."""
        generation = self.engine.submit(Request(tuple(prompt), SamplingSettings(temperature=0, max_tokens=limit)))
        begun, first, last = 0.0, 0, 0
        for piece in generation:
            last = piece.tokens
            if not first:
                begun, first = time.perf_counter(), last
        return (last - first) / (time.perf_counter() - begun)


class LlamaCpp:
    """llama.cpp's server in this process, called without HTTP, with a slot for each stream."""

    def __init__(self, path: Path, slots: int, context: int = 768) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path, params.verbosity = str(path), -1
        params.n_parallel, params.n_ctx, params.n_gpu_layers = slots, slots * context, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        self._server = xllamacpp.Server(params)
        self._pool = ThreadPoolExecutor(slots)

    def seconds(self, prompts: Prompts, tokens: int) -> float:
        """See `Way`."""
        begun = time.perf_counter()
        answers = list(self._pool.map(lambda ids: self._ask(ids, tokens, ignore_eos=True), prompts))
        assert all(answer["usage"]["completion_tokens"] == tokens for answer in answers), answers
        return time.perf_counter() - begun

    def answer(self, prompt: Sequence[int], limit: int) -> float:
        """See `Way`; by its own clock."""
        return float(self._ask(prompt, limit)["timings"]["predicted_per_second"])

    def _ask(self, prompt: Sequence[int], limit: int, **settings: object) -> dict:
        body = {"prompt": list(prompt), "n_predict": limit, "temperature": 0, "samplers": ["temperature"], **settings}
        chunks: list[dict] = []
        self._server.handle_completions({**body, "cache_prompt": True}, lambda chunk: bool(chunks.append(chunk)))
        assert "error" not in chunks[-1], chunks[-1]
        return chunks[-1]


class Transformers:
    """`transformers.generate`."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model

    @torch.inference_mode()
    def seconds(self, prompts: Prompts, tokens: int) -> float:
        """See `Way`."""
        begun = time.perf_counter()
        ids = torch.tensor(prompts, device=next(self._model.parameters()).device)
        self._model.generate(  # type: ignore[operator]
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, eos_token_id=None,
            pad_token_id=0,
        )  # fmt: skip
        return time.perf_counter() - begun

    def answer(self, prompt: Sequence[int], limit: int) -> float:
        """See `Way`; it never ends before the limit here."""
        return (limit - 1) / (self.seconds([prompt], limit) - self.seconds([prompt], 1))
