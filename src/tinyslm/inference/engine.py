"""The engine: requests in, tokens out."""

from __future__ import annotations

import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from threading import Condition, RLock, Thread
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.batching import ContinuousBatch, EngineOptions
from tinyslm.inference.generation import Generation, Sink
from tinyslm.inference.healing import Healing, cuts_of
from tinyslm.inference.request import Completion, EngineStats, Piece, Request, check_request
from tinyslm.inference.runners import MakeRunner, make_runner
from tinyslm.inference.scheduler import TokenSequence
from tinyslm.inference.sequence_state import SequenceState
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.speculation import Guesser, LookUp
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.tool_calls import for_template

if TYPE_CHECKING:
    from tinyslm.inference.grammar import Grammar


class EngineFull(TinyslmError):
    """The queue is full, or the engine is closed."""


class Engine:
    """Generates text with a model and its tokenizer; `open_engine` makes one for a model folder.

    Without `start`, iterating over a `Generation` drives the engine; after it, a thread does, and requests of
    many threads run side by side.

    Attributes: `name` of the runner; `model`; `tokenizer`; `context`: longest sequence, prompt and answer together;
    `default_sampling`: settings of requests that give none (see `read_default_sampling`); `conversations`: whether the
    model was trained on any (see `holds_conversations`).
    """

    name: str
    default_sampling = SamplingSettings()
    conversations = True

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        options: EngineOptions | None = None,
        *,
        runner: MakeRunner = make_runner,
        guesser: Callable[[], Guesser] | None = None,
    ) -> None:
        """runner: makes what computes from the model and the number of blocks; it is called again for new weights.
        guesser: makes what guesses ahead for one sequence; prompt look-up, if not given.
        """
        self.tokenizer, self.context = tokenizer, model.config.longest
        self._options = options or EngineOptions()
        self._make_runner = runner
        self._guesser = guesser or partial(LookUp, self._options.guesses)
        self._submitted: deque[SequenceState] = deque()
        self._order = 0
        self._totals: Counter[str] = Counter()
        self._stepping = RLock()
        self._news = Condition()
        self._thread: Thread | None = None
        self._updating = False
        self._closed = False
        self._broken: Exception | None = None
        self._install(model)

    def _install(self, model: Decoder) -> None:
        """Compute with this model from now on, with an empty cache."""
        self._batch = ContinuousBatch(model, self._options, self._make_runner, self._guesser)
        self.model, self.name = model, self._batch.runner.name

    def _replace(self, model: Decoder) -> None:
        """The same, in place of the batch, which has nothing to do."""
        totals = self._batch.totals
        self._batch.free()  # before the new one takes as much memory
        try:
            self._install(model)
        except Exception as error:
            self._break(error)
            raise
        self._totals += totals

    def load_weights(self, model: Decoder) -> None:
        """Compute with the weights of `model` from now on, which may be packed otherwise or in another number format.

        Requests submitted before are finished with the old weights first; those submitted meanwhile or later see only
        the new ones. The cache is emptied. Weights that were changed in place need this call, too: runners hold copies.

        Raises `TinyslmError` for a model of another shape; the engine goes on with the old weights then.
        """
        before, now = self.model.config.model_dump(), model.config.model_dump()
        if differing := [f"{key} {now[key]} instead of {before[key]}" for key in before if before[key] != now[key]]:
            raise TinyslmError(
                f"The new weights are of a model of another shape: {', '.join(differing)}.",
                "Give weights of the same shape, or open an engine for this model.",
            )
        self._pause(True)
        try:
            with self._stepping:
                self._check_open()
                self._admit()
                while self._batch.busy:
                    self._batch.step()
                self._replace(model)
        finally:
            self._pause(False)

    def complete(
        self,
        prompt: str,
        settings: SamplingSettings | None = None,
        n: int = 1,
        *,
        grammar: Grammar | None = None,
        heal: bool = True,
    ) -> list[Completion]:
        """`n` continuations of `prompt`, as a list; see `stream`."""
        return self.submit(self.completion_request(prompt, settings, n, grammar=grammar, heal=heal)).whole()

    def stream(
        self,
        prompt: str,
        settings: SamplingSettings | None = None,
        n: int = 1,
        *,
        grammar: Grammar | None = None,
        heal: bool = True,
    ) -> Iterator[Piece]:
        """`n` continuations of `prompt`, piece by piece as they come; an empty prompt starts a new document.

        settings: fields that are not given are the model's defaults (`default_sampling`). Sample `i` draws from a
        generator seeded with `seed + i`. heal: see `Request`. When the context is full, its older half is forgotten.
        Raises `TinyslmError` when the prompt alone does not fit the context.
        """
        yield from self.submit(self.completion_request(prompt, settings, n, grammar=grammar, heal=heal))

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        settings: SamplingSettings | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        grammar: Grammar | None = None,
        n: int = 1,
    ) -> list[Completion]:
        """`n` answers to a conversation; each message has a "role" and a "content"."""
        ids = self.chat_ids(messages, tools)
        request = Request(ids, self.with_defaults(settings), n, grammar, continues=False)
        return self.submit(request).whole()

    def chat_ids(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> tuple[int, ...]:
        """The ids of a conversation up to where the model is to answer, as its chat template writes it."""
        written, listed = for_template(messages, tools, self.tokenizer)
        return tuple(encode_chat(self.tokenizer, written, add_generation_prompt=True, tools=listed))

    def prompt_ids(self, prompt: str) -> tuple[int, ...]:
        """The ids of a text to continue; those of an empty one start a new document."""
        ids = (*self.tokenizer.start_ids, *self.tokenizer.encode(prompt))
        return ids or (self.tokenizer.eos_id,)

    def with_defaults(self, given: SamplingSettings | None = None) -> SamplingSettings:
        """The given fields, and this model's defaults for the others."""
        return self.default_sampling if given is None else given.over(self.default_sampling)

    def completion_request(
        self,
        prompt: str,
        settings: SamplingSettings | None = None,
        n: int = 1,
        *,
        grammar: Grammar | None = None,
        heal: bool = True,
    ) -> Request:
        """A request that continues `prompt`, to be submitted; the parameters are those of `stream`."""
        ids = self.prompt_ids(prompt)
        continues = len(ids) > len(self.tokenizer.start_ids)
        slides = grammar is None
        return Request(ids, self.with_defaults(settings), n, grammar, continues=continues, slides=slides, heal=heal)

    def submit(self, request: Request, sink: Sink | None = None) -> Generation:
        """Queue a request; with a sink, its pieces go there, in the engine's thread.

        Raises `TinyslmError` for a request that cannot be served (see `check_request`), and `EngineFull` when too many
        wait or the engine is closed.
        """
        check_request(request, self.tokenizer.vocab_size, self.context)
        waiting = len(self._batch.scheduler.waiting) + len(self._submitted)
        if waiting + request.n > self._options.max_waiting:
            raise EngineFull(f"{waiting} texts are waiting already.", "Try again later.")
        generation = Generation(request, self, sink)
        seed = secrets.randbits(48) if request.settings.seed is None else request.settings.seed
        max_tokens = request.settings.max_tokens
        if not request.slides:
            max_tokens = min(max_tokens, self.context + 1 - len(request.prompt_ids))
        cuts = cuts_of(self.tokenizer, request.prompt_ids) if request.heal and request.grammar is None else None
        healing, prompt = (Healing(cuts), cuts.root) if cuts else (None, request.prompt_ids)
        with self._news:
            self._check_open()
            first: TokenSequence | None = None
            for number in range(request.n):
                tokens = TokenSequence(list(prompt), request.priority, self._order, first)
                first, self._order = first or tokens, self._order + 1
                sample = SequenceState(
                    generation, number, seed=seed, max_tokens=max_tokens, sequence=tokens, tokenizer=self.tokenizer
                )
                sample.healing, tokens.chain = healing, cuts.chains[0] if cuts else ()
                self._submitted.append(sample)
            self._news.notify_all()
        return generation

    def start(self) -> None:
        """Run in a thread of its own from now on."""
        with self._news:
            if self._thread is None:
                self._thread = Thread(target=self._work, name="tinyslm-engine", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Cancel what runs and waits, and free the memory."""
        with self._news:
            if self._closed:
                return
            self._closed = True
            self._news.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._stepping:
            self._admit()
            self._batch.cancel(lambda _: True)
            self._batch.free()

    def stats(self) -> EngineStats:
        """What runs and waits now, and totals since the engine was made."""
        scheduler, totals = self._batch.scheduler, self._totals + self._batch.totals
        return EngineStats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting) + len(self._submitted),
            blocks_used=scheduler.pool.used,
            blocks_total=scheduler.pool.count,
            prompt_tokens=totals["prompt"],
            cached_tokens=totals["cached"],
            generated_tokens=totals["generated"],
            drafted_tokens=totals["drafted"],
            accepted_tokens=totals["accepted"],
            forced_tokens=totals["forced"],
        )

    def embed(self, ids: Sequence[int]) -> NDArray[Any]:
        """The mean of the final hidden states over a text, fp32 `[dim]`."""
        with self._stepping:
            self._check_open()
            mean: NDArray[Any] = self._batch.runner.hidden(ids).mean(0)
        return mean

    def drive(self, generation: Generation) -> None:
        """Take steps until the generation has something new, unless the engine's own thread does."""
        if self._thread is not None:
            return
        with self._stepping:
            while generation.waits:
                self._admit()
                assert self._batch.busy, "a generation waits for an engine that has nothing to do"
                self._batch.step()

    def _check_open(self) -> None:
        if self._closed or self._broken:
            raise EngineFull("This engine is closed.", "Open a new one.") from self._broken

    def _admit(self) -> None:
        """Hand submitted samples to the batch."""
        while self._submitted:
            self._batch.add(self._submitted.popleft())

    def _pause(self, updating: bool) -> None:
        """Stop or resume the engine's own thread between two steps."""
        with self._news:
            self._updating = updating
            self._news.notify_all()

    def _work(self) -> None:
        """What the engine's own thread does."""
        while True:
            with self._news:
                while not self._closed and (self._updating or not (self._batch.busy or self._submitted)):
                    self._news.wait()
            if self._closed:
                return
            try:
                with self._stepping:
                    self._admit()
                    self._batch.step()
            except Exception as error:  # our own bug: end every request rather than let its client wait
                logging.getLogger(__name__).exception("The engine is broken.")
                self._break(error)
                return

    def _break(self, error: Exception) -> None:
        with self._news:
            self._broken = error
            generations = self._batch.drop() | {one.generation for one in self._submitted}
            self._submitted.clear()
        for generation in generations:
            generation.push(error)
