"""Our own engine: continuous batching over a runner.

Each step takes in what the scheduler planned for many sequences at once, draws their next tokens together, and passes
on the text that has become certain.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Condition, RLock, Thread
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from tinyslm.inference.blocks import BlockPool
from tinyslm.inference.drawing import Draws
from tinyslm.inference.engine import Engine, EngineFull
from tinyslm.inference.generation import Generation, Sink
from tinyslm.inference.healing import Healing, cuts_of
from tinyslm.inference.native.build import available
from tinyslm.inference.native.runner import NativeRunner, suits
from tinyslm.inference.request import EngineStats, Request
from tinyslm.inference.runner import Rows, Runner
from tinyslm.inference.sample import Sample
from tinyslm.inference.scheduler import Limits, Scheduler, Work
from tinyslm.inference.scheduler import Sequence as Tokens
from tinyslm.inference.settings import read_default_sampling
from tinyslm.inference.speculation import Guesser, LookUp
from tinyslm.inference.torch_runner import BLOCK, TorchRunner
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, usual_dtype
from tinyslm.tokenizer.tokenizer import Tokenizer

SEQUENCES_AT_HAND = 32
"""For so many sequences of full length there is a cache, if memory allows."""

FEW = 4
"""Guessing pays while no more sequences than this are being generated: beyond, the rows are better used by others."""


@dataclass(frozen=True)
class EngineOptions:
    """cache_tokens: how many tokens' keys and values fit the cache; `None`: up to a quarter of the free memory.
    most_waiting: samples that may wait before `EngineFull` is raised. guesses: most tokens guessed ahead by looking up
    what followed the same words before; 0: no guessing. jump: take what a grammar forces without asking the model.
    """

    cache_tokens: int | None = None
    most_waiting: int = 1024
    guesses: int = 8
    jump: bool = True
    limits: Limits = field(default_factory=Limits)


class BatchEngine(Engine):
    """Generates text with a model and its tokenizer."""

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        options: EngineOptions | None = None,
        *,
        runner: Callable[[Decoder, int], Runner] | None = None,
        guesser: Callable[[], Guesser] | None = None,
    ) -> None:
        """`runner` makes what computes from the model and the number of blocks; the best one there is, if not given.
        (The engine itself asks the model only for its `config` and `dtype`.)

        `guesser` makes what guesses ahead for one sequence: prompt look-up, if not given.
        """
        self.model, self.tokenizer, self.context = model, tokenizer, model.config.longest
        self._options = options or EngineOptions()
        blocks = block_count(model.config, model.dtype.itemsize, self._options.cache_tokens)
        self._runner = (runner or best_runner)(model, blocks)
        self.name = self._runner.name
        self._guesser = guesser or partial(LookUp, self._options.guesses)
        limits = replace(self._options.limits, switch=model.config.switch_length)
        self._scheduler = Scheduler(BlockPool(blocks), self._runner.block_size, limits)
        self._samples: dict[Tokens, Sample] = {}
        self._guessers: dict[Tokens, Guesser] = {}
        self._arrived: deque[Sample] = deque()
        self._order = 0
        self._totals = dict.fromkeys(("prompt", "cached", "generated", "drafted", "accepted", "forced"), 0)
        self._stepping = RLock()
        self._news = Condition()
        self._thread: Thread | None = None
        self._closed = False
        self._broken: Exception | None = None

    def submit(self, request: Request, sink: Sink | None = None) -> Generation:
        """See `Engine.submit`."""
        self.check(request)
        waiting = len(self._scheduler.waiting) + len(self._arrived)
        if waiting + request.n > self._options.most_waiting:
            raise EngineFull(f"{waiting} texts are waiting already.", "Try again later.")
        generation = Generation(request, self, sink)
        seed = secrets.randbits(48) if request.settings.seed is None else request.settings.seed
        most = request.settings.max_tokens
        if not request.slides:
            most = min(most, self.context + 1 - len(request.prompt_ids))
        cuts = cuts_of(self.tokenizer, request.prompt_ids) if request.heal and request.grammar is None else None
        healing, prompt = (Healing(cuts), cuts.root) if cuts else (None, request.prompt_ids)
        with self._news:
            if self._closed or self._broken:
                raise EngineFull("This engine is closed.", "Make a new one.") from self._broken
            first: Tokens | None = None
            for number in range(request.n):
                tokens = Tokens(list(prompt), request.priority, self._order, first)
                first, self._order = first or tokens, self._order + 1
                sample = Sample(generation, number, seed=seed, most=most, sequence=tokens, tokenizer=self.tokenizer)
                sample.healing, tokens.chain = healing, cuts.chains[0] if cuts else ()
                self._arrived.append(sample)
            self._news.notify_all()
        return generation

    def start(self) -> None:
        """Work in a thread of its own from now on."""
        with self._news:
            if self._thread is None:
                self._thread = Thread(target=self._work, name="tinyslm-engine", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End what runs ("cancelled"), and free the memory."""
        with self._news:
            if self._closed:
                return
            self._closed = True
            self._news.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._stepping:
            self._admit()
            for sample in list(self._samples.values()):
                sample.end("cancelled")
                self._tell(sample)
            del self._runner

    def stats(self) -> EngineStats:
        """What it is doing."""
        pool, totals = self._scheduler.pool, self._totals
        return EngineStats(
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting) + len(self._arrived),
            blocks_used=pool.used,
            blocks_total=pool.count,
            prompt_tokens=totals["prompt"],
            cached_tokens=totals["cached"],
            generated_tokens=totals["generated"],
            drafted_tokens=totals["drafted"],
            accepted_tokens=totals["accepted"],
            forced_tokens=totals["forced"],
        )

    def embed(self, ids: Sequence[int]) -> NDArray[Any]:
        """See `Engine.embed`."""
        with self._stepping:
            if self._closed:
                raise EngineFull("This engine is closed.", "Make a new one.")
            mean: NDArray[Any] = self._runner.hidden(ids).mean(0)
        return mean

    def drive(self, generation: Generation) -> None:
        """Take steps until the generation has something new, unless the engine's own thread does."""
        if self._thread is not None:
            return
        with self._stepping:
            while generation.waits:
                assert self._busy, "a generation waits for an engine that has nothing to do"
                self._step()

    @property
    def _busy(self) -> bool:
        return bool(self._samples or self._arrived)

    def _work(self) -> None:
        while True:
            with self._news:
                while not (self._busy or self._closed):
                    self._news.wait()
            if self._closed:
                return
            try:
                with self._stepping:
                    self._step()
            except Exception as error:  # our own bug: nobody is to wait for an engine that does not work
                logging.getLogger(__name__).exception("The engine is broken.")
                self._break(error)
                return

    def _break(self, error: Exception) -> None:
        with self._news:
            self._broken = error
            generations = {one.generation for one in (*self._samples.values(), *self._arrived)}
            self._samples.clear()
            self._arrived.clear()
        for generation in generations:
            generation.push(error)

    def _step(self) -> None:
        """One step; what goes wrong in it ends every request that runs."""
        try:
            self._admit()
            works = self._scheduler.plan(self._guesses())
            if works:
                self._take_up(works, self._runner.run(_rows(works)))
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Every request that runs ends with what went wrong."""
        for generation in {sample.generation for sample in self._samples.values()}:
            self._abandon(generation, error)

    def _abandon(self, generation: Generation, error: Exception) -> None:
        """One request ends with what went wrong."""
        for sample in [one for one in self._samples.values() if one.generation is generation]:
            self._remove(sample)
        generation.push(error)

    def _admit(self) -> None:
        """Take in what has arrived, and let go of what nobody waits for any longer."""
        while self._arrived:
            sample = self._arrived.popleft()
            self._samples[sample.sequence] = sample
            self._guessers[sample.sequence] = self._guesser()
            self._scheduler.add(sample.sequence)
        for sample in [one for one in self._samples.values() if one.generation.cancelled]:
            sample.end("cancelled")
            self._tell(sample)

    def _guesses(self) -> dict[Tokens, list[int]]:
        """What may follow in each sequence that is being generated, when there are only a few."""
        generating = [one for one in self._scheduler.running if one.missing == 1]
        if not self._options.guesses or len(generating) > FEW:
            return {}
        guesses = {}
        for tokens in generating:
            sample = self._samples[tokens]
            if sample.healing is not None:
                continue
            room = min(sample.most - sample.generated, self.context - len(tokens.tokens)) - 1
            room = min(room, self._scheduler.room(tokens))
            if room > 0 and (ids := self._guessers[tokens].guess(tokens.tokens, room)):
                guesses[tokens] = ids
        return guesses

    def _take_up(self, works: list[Work], logits_wv: NDArray[np.float32]) -> None:
        """Draw what follows, place by place: the next one of a sequence counts if its guessed token was drawn."""
        asked = [work for work in works if work.wanted]
        first_rows = dict(zip(asked, np.cumsum([0, *(work.wanted for work in asked)])[:-1], strict=True))
        accepted = dict.fromkeys(works, 0)
        going = []
        for work in asked:
            sample, row = self._samples[work.sequence], first_rows[work]
            if sample.healing is None:
                going.append(work)
            else:
                accepted[work] = sample.heal(work.sequence.chain, logits_wv[row : row + work.wanted])
        while going:
            rows = [first_rows[work] + accepted[work] for work in going]
            chosen = self._choose([self._samples[work.sequence] for work in going], logits_wv, rows)
            left = []
            for work, token in zip(going, chosen, strict=True):
                place = accepted[work]
                if place + 1 < work.wanted and token == work.ids[len(work.ids) - work.wanted + 1 + place]:
                    accepted[work] += 1
                    if not self._samples[work.sequence].finish:
                        left.append(work)
            going = left
        for work in works:
            if work.sequence in self._samples:  # not abandoned with another sample of its request
                self._settle(work, accepted[work])

    def _choose(self, samples: list[Sample], logits_wv: NDArray[np.float32], rows: list[int]) -> list[int]:
        """Draw one token for each sample from its row of logits; -1 where its grammar gave up."""
        chosen_wv = logits_wv if rows == list(range(len(logits_wv))) else logits_wv[rows]
        plain: dict[int, NDArray[np.float32]] = {}
        for row, sample in enumerate(samples):
            if sample.reshapes:
                if sample.generation.request.logprobs is not None:
                    plain[row] = chosen_wv[row].copy()
                sample.reshape(chosen_wv[row])
        allowed = self._allowed(samples, chosen_wv.shape[1])
        draws = Draws.of([one.settings for one in samples], [one.chance() for one in samples], allowed)
        drawn = self._runner.draw(chosen_wv, draws)
        tokens = []
        for row, (sample, token) in enumerate(zip(samples, drawn, strict=True)):
            tokens.append(-1 if sample.error else sample.settle(int(token)))
            if not sample.error:
                sample.score(tokens[-1], plain.get(row, chosen_wv[row]))
                sample.take(tokens[-1])
        return tokens

    def _allowed(self, samples: list[Sample], vocab_size: int) -> NDArray[np.uint32] | None:
        """The tokens that grammars allow, as bits; `None` where no sample has one."""
        if all(one.matcher is None for one in samples):
            return None
        bits = np.full((len(samples), -(-vocab_size // 32)), 0xFFFFFFFF, np.uint32)
        for row, sample in enumerate(samples):
            sample.allow(bits[row])
        return bits

    def _settle(self, work: Work, accepted: int) -> None:
        """Account for the work of one sequence, and see whether it goes on."""
        sample, tokens = self._samples[work.sequence], work.sequence
        self._scheduler.done(work, accepted)
        if work.wanted and not sample.counted:
            self._count_prompt(sample)
        if work.wanted and sample.healing is not None:
            tokens.chain = sample.healing.unread or ()
            self._scheduler.restart(tokens, tokens.tokens)
            return
        if work.wanted > 1 and not tokens.chain:
            self._guessers[tokens].learn(work.wanted - 1, accepted)
            self._totals["drafted"] += work.wanted - 1
            self._totals["accepted"] += accepted
        if work.wanted and self._options.jump and not sample.error:
            self._totals["forced"] += sample.take_forced()
        if sample.error:
            self._abandon(sample.generation, sample.error)
        if not work.wanted or sample.error:
            return
        self._totals["generated"] += len(sample.fresh) - sample.echoed
        tokens.chain = ()
        self._scheduler.extend(tokens, sample.fresh)
        if not sample.finish and len(tokens.tokens) > self.context:  # full: forget the older half
            self._scheduler.restart(tokens, tokens.tokens[-(self.context // 2) :])
        self._tell(sample)

    def _count_prompt(self, sample: Sample) -> None:
        """Its prompt has been read. The first sample's share of the cache is the request's: the others share it all."""
        sample.counted = True
        if not sample.number:
            sample.generation.usage.cached_tokens = sample.sequence.cached
            self._totals["prompt"] += len(sample.generation.request.prompt_ids)
            self._totals["cached"] += sample.sequence.cached

    def _tell(self, sample: Sample) -> None:
        if sample.finish:
            self._remove(sample)
        sample.tell()

    def _remove(self, sample: Sample) -> None:
        self._scheduler.remove(sample.sequence)
        del self._samples[sample.sequence]
        del self._guessers[sample.sequence]


def _rows(works: list[Work]) -> Rows:
    """The planned work as arrays."""
    counts = [len(work.ids) for work in works]
    tables = np.full((len(works), max(len(work.sequence.table) for work in works)), -1, np.int32)
    for row, work in enumerate(works):
        tables[row, : len(work.sequence.table)] = work.sequence.table
    stops = np.cumsum(counts)
    wanted = [np.arange(stop - work.wanted, stop) for stop, work in zip(stops, works, strict=True)]
    return Rows(
        ids=np.array([token for work in works for token in work.ids], np.int32),
        positions=np.concatenate([np.arange(work.start, work.start + len(work.ids)) for work in works]).astype(
            np.int32
        ),
        sequences=np.repeat(np.arange(len(works)), counts).astype(np.int32),
        tables=tables,
        wanted=np.concatenate(wanted).astype(np.int32),
        lengths=np.array([max(len(one.sequence.tokens), one.start + len(one.ids)) for one in works], np.int32),
    )


def best_runner(model: Decoder, blocks: int) -> Runner:
    """The native runner where the model and the machine allow it, else the model's own modules."""
    if suits(model) is None and available() is None:
        return NativeRunner(model, blocks)
    return TorchRunner(model, blocks)


def block_count(config: ModelConfig, itemsize: int, cache_tokens: int | None) -> int:
    """How many blocks a cache has: enough for `SEQUENCES_AT_HAND` full contexts, within a quarter of the free memory.

    At least one full context, and room for one token more.
    """
    least = config.longest // BLOCK + 2
    if cache_tokens is not None:
        return max(least, -(-cache_tokens // BLOCK))
    block_bytes = 2 * config.depth * config.kv_heads * config.head_dim * BLOCK * itemsize
    most = int(psutil.virtual_memory().available) // 4 // block_bytes
    return max(least, min(SEQUENCES_AT_HAND * (least + 1), most))


def load_engine(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> BatchEngine:
    """See `Engine.load`."""
    folder, device = Path(folder), torch.device(device)
    model = load_model(folder, dtype=dtype or usual_dtype(folder, device), device=device)
    engine = BatchEngine(model, load_tokenizer(folder))
    engine.default_sampling = read_default_sampling(folder)
    return engine
