"""Continuous batching: the sequences that one model generates side by side, step by step.

Each step computes what the scheduler planned for many sequences at once, draws their next tokens together, and passes
on the text that has become certain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tinyslm.inference.blocks import BlockPool
from tinyslm.inference.generation import Generation
from tinyslm.inference.runner import rows_of
from tinyslm.inference.runners import MakeRunner, block_count
from tinyslm.inference.sampler import SamplingBatch
from tinyslm.inference.scheduler import Limits, ScheduledStep, Scheduler, TokenSequence
from tinyslm.inference.sequence_state import SequenceState
from tinyslm.inference.speculation import Guesser
from tinyslm.model.decoder import Decoder

SPECULATIVE_SEQUENCES = 4
"""Speculation pays while no more sequences than this are being generated: beyond, others use the rows better."""


@dataclass(frozen=True)
class EngineOptions:
    """cache_tokens: how many tokens' keys and values fit the cache; `None`: up to a quarter of the free memory.
    max_waiting: samples that may wait before `EngineFull` is raised. guesses: most tokens guessed ahead by looking up
    what followed the same words before; 0: no guessing. jump: append what a grammar forces without running the model.
    """

    cache_tokens: int | None = None
    max_waiting: int = 1024
    guesses: int = 8
    jump: bool = True
    limits: Limits = field(default_factory=Limits)


class ContinuousBatch:
    """A model with its KV cache, and the samples that it generates or that wait for a place.

    Attributes: `runner`, `scheduler`; `totals`: counts of tokens by kind.
    """

    def __init__(
        self, model: Decoder, options: EngineOptions, make_runner: MakeRunner, guesser: Callable[[], Guesser]
    ) -> None:
        blocks = block_count(model.config, model.dtype.itemsize, options.cache_tokens)
        self.runner = make_runner(model, blocks)
        limits = replace(options.limits, switch=model.config.switch_length)
        self.scheduler = Scheduler(BlockPool(blocks), self.runner.block_size, limits)
        self.totals: Counter[str] = Counter()
        self._context, self._options, self._guesser = model.config.longest, options, guesser
        self._samples: dict[TokenSequence, SequenceState] = {}
        self._guessers: dict[TokenSequence, Guesser] = {}

    @property
    def busy(self) -> bool:
        """Whether any sample has not ended."""
        return bool(self._samples)

    def add(self, sample: SequenceState) -> None:
        """Let a sample wait for a place."""
        self._samples[sample.sequence] = sample
        self._guessers[sample.sequence] = self._guesser()
        self.scheduler.add(sample.sequence)

    def step(self) -> None:
        """One step; an error in it ends every request with this error."""
        try:
            self.cancel(lambda sample: sample.generation.cancelled)
            steps = self.scheduler.plan(self._guesses())
            if steps:
                self._accept(steps, self.runner.run(rows_of(steps)))
        except Exception as error:
            self.fail(error)

    def cancel(self, unwanted: Callable[[SequenceState], bool]) -> None:
        """End these samples as "cancelled"."""
        for sample in [one for one in self._samples.values() if unwanted(one)]:
            sample.end("cancelled")
            self._emit(sample)

    def fail(self, error: Exception) -> None:
        """End every request with this error."""
        for generation in {sample.generation for sample in self._samples.values()}:
            self._abandon(generation, error)

    def drop(self) -> set[Generation]:
        """Forget all samples without telling anybody; gives their requests."""
        generations = {sample.generation for sample in self._samples.values()}
        self._samples.clear()
        return generations

    def free(self) -> None:
        """Free the memory of the weights and the cache; no step can follow."""
        vars(self).pop("runner", None)

    def _abandon(self, generation: Generation, error: Exception) -> None:
        """End one request with this error."""
        for sample in [one for one in self._samples.values() if one.generation is generation]:
            self._remove(sample)
        generation.push(error)

    def _guesses(self) -> dict[TokenSequence, list[int]]:
        """What may follow in each sequence that is being generated, when there are only a few."""
        generating = [one for one in self.scheduler.running if one.missing == 1]
        if not self._options.guesses or len(generating) > SPECULATIVE_SEQUENCES:
            return {}
        guesses = {}
        for tokens in generating:
            sample = self._samples[tokens]
            if sample.healing is not None:
                continue
            room = min(sample.max_tokens - sample.generated, self._context - len(tokens.tokens)) - 1
            room = min(room, self.scheduler.room(tokens))
            if room > 0 and (ids := self._guessers[tokens].guess(tokens.tokens, room)):
                guesses[tokens] = ids
        return guesses

    def _accept(self, steps: list[ScheduledStep], logits_wv: NDArray[np.float32]) -> None:
        """Draw what follows, place by place: the next one of a sequence counts if its guessed token was drawn."""
        asked = [step for step in steps if step.wanted]
        first_rows = dict(zip(asked, np.cumsum([0, *(step.wanted for step in asked)])[:-1], strict=True))
        accepted = dict.fromkeys(steps, 0)
        going = []
        for step in asked:
            sample, row = self._samples[step.sequence], first_rows[step]
            if sample.healing is None:
                going.append(step)
            else:
                accepted[step] = sample.heal(step.sequence.chain, logits_wv[row : row + step.wanted])
        while going:
            rows = [first_rows[step] + accepted[step] for step in going]
            chosen = self._choose([self._samples[step.sequence] for step in going], logits_wv, rows)
            left = []
            for step, token in zip(going, chosen, strict=True):
                place = accepted[step]
                if place + 1 < step.wanted and token == step.ids[len(step.ids) - step.wanted + 1 + place]:
                    accepted[step] += 1
                    if not self._samples[step.sequence].finish:
                        left.append(step)
            going = left
        for step in steps:
            if step.sequence in self._samples:  # not abandoned with another sample of its request
                self._settle(step, accepted[step])

    def _choose(self, samples: list[SequenceState], logits_wv: NDArray[np.float32], rows: list[int]) -> list[int]:
        """Draw one token for each sample from its row of logits; -1 where its grammar gave up."""
        chosen_wv = logits_wv if rows == list(range(len(logits_wv))) else logits_wv[rows]
        plain: dict[int, NDArray[np.float32]] = {}
        for row, sample in enumerate(samples):
            if sample.has_penalties:
                if sample.generation.request.logprobs is not None:
                    plain[row] = chosen_wv[row].copy()
                sample.apply_penalties(chosen_wv[row])
        allowed = self._allowed(samples, chosen_wv.shape[1])
        draws = SamplingBatch.of([one.settings for one in samples], [one.next_random() for one in samples], allowed)
        drawn = self.runner.draw(chosen_wv, draws)
        tokens = []
        for row, (sample, token) in enumerate(zip(samples, drawn, strict=True)):
            tokens.append(-1 if sample.error else sample.settle(int(token)))
            if not sample.error:
                sample.score(tokens[-1], plain.get(row, chosen_wv[row]))
                sample.take(tokens[-1])
        return tokens

    def _allowed(self, samples: list[SequenceState], vocab_size: int) -> NDArray[np.uint32] | None:
        """The tokens that grammars allow, as bits; `None` where no sample has one."""
        if all(one.matcher is None for one in samples):
            return None
        bits = np.full((len(samples), -(-vocab_size // 32)), 0xFFFFFFFF, np.uint32)
        for row, sample in enumerate(samples):
            sample.mask(bits[row])
        return bits

    def _settle(self, step: ScheduledStep, accepted: int) -> None:
        """Account for the part of one sequence in a step, and continue it unless it ended."""
        sample, tokens = self._samples[step.sequence], step.sequence
        self.scheduler.done(step, accepted)
        if step.wanted and not sample.counted:
            self._count_prompt(sample)
        if step.wanted and sample.healing is not None:
            tokens.chain = sample.healing.unread or ()
            self.scheduler.restart(tokens, tokens.tokens)
            return
        if step.wanted > 1 and not tokens.chain:
            self._guessers[tokens].learn(step.wanted - 1, accepted)
            self.totals["drafted"] += step.wanted - 1
            self.totals["accepted"] += accepted
        if step.wanted and self._options.jump and not sample.error:
            self.totals["forced"] += sample.take_forced()
        if sample.error:
            self._abandon(sample.generation, sample.error)
        if not step.wanted or sample.error:
            return
        self.totals["generated"] += len(sample.new_ids) - sample.echoed
        tokens.chain = ()
        self.scheduler.extend(tokens, sample.new_ids)
        if not sample.finish and len(tokens.tokens) > self._context:  # full: forget the older half
            self.scheduler.restart(tokens, tokens.tokens[-(self._context // 2) :])
        self._emit(sample)

    def _count_prompt(self, sample: SequenceState) -> None:
        """Its prompt has been read. The first sample's share of the cache is the request's: the others share it all."""
        sample.counted = True
        if not sample.number:
            sample.generation.usage.cached_tokens = sample.sequence.cached
            self.totals["prompt"] += len(sample.generation.request.prompt_ids)
            self.totals["cached"] += sample.sequence.cached

    def _emit(self, sample: SequenceState) -> None:
        if sample.finish:
            self._remove(sample)
        sample.emit()

    def _remove(self, sample: SequenceState) -> None:
        self.scheduler.remove(sample.sequence)
        del self._samples[sample.sequence]
        del self._guessers[sample.sequence]
