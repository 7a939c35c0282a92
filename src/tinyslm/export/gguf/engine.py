"""llama.cpp in this process as an `Engine`: a GGUF file answers the requests that a model folder does.

llama.cpp (the package `xllamacpp`) batches and samples by itself. Ids go in; the ids that come back become text here,
so that texts, stop strings and ends are those of the other engines. What differs:

- The same seed gives other draws than in the other engines. It repeats its text when the request runs alone; beside
  others, products are added up in another order, and draws and close calls may come out otherwise.
- Frequency and presence penalties count the prompt's tokens, too.
- A character whose bytes are spread over several tokens comes as a whole. Its first tokens are told apart by their
  bytes; where these can be cut in several ways one is taken, and they have no scores. Such a character that is
  unfinished at the end of a text is left out.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any

import psutil

from tinyslm.export.gguf.answers import Answer, Cutter, lark, question
from tinyslm.export.gguf.llama_cpp_server import start_server
from tinyslm.export.gguf.reader import Gguf
from tinyslm.export.gguf.vocabulary import read_tokenizer
from tinyslm.inference.engine import Engine, EngineFull
from tinyslm.inference.generation import Generation, Sink
from tinyslm.inference.request import EngineStats, Request

if TYPE_CHECKING:
    from tinyslm.inference.batch_engine import EngineOptions

USUAL_SLOTS = 4
"""Texts that are generated side by side, unless the options' cache says otherwise; each has a whole context."""
PROMPT_STEP = 512
"""Tokens of a prompt that are read at once: so often a request can be cancelled."""


class LlamaCppEngine(Engine):
    """A GGUF file in llama.cpp. It always works in threads of its own."""

    name = "llama.cpp"

    def __init__(
        self, path: str | Path, options: EngineOptions | None = None, *, threads: int = 1, context: int | None = None
    ) -> None:
        """Load the file. context: the longest sequence, at most the model's; each text side by side takes room for it.

        Raises `TinyslmError` for a file that is damaged, that llama.cpp does not load, or that has a vocabulary which
        is not known here.
        """
        from tinyslm.inference.batch_engine import EngineOptions

        options = options or EngineOptions()
        file = Gguf(path)
        self.tokenizer = read_tokenizer(file)
        trained = file.need(f"{file.need('general.architecture', str)}.context_length", int)
        places = min(context + 1, trained) if context else trained
        self.context = places - 1  # one place stays free
        self.slots = _slot_count(file, places, options)
        self.server, _ = start_server(
            Path(path), context=places, sequences=self.slots, threads=threads, batch=PROMPT_STEP
        )
        self.closed = False
        self._most_waiting = options.most_waiting
        self._waiting: list[_Job] = []
        self._running: dict[_Job, Thread] = {}
        self._order = 0
        self._totals = dict.fromkeys(("prompt", "cached", "generated"), 0)
        self._changing = Condition()

    def submit(self, request: Request, sink: Sink | None = None) -> Generation:
        """See `Engine.submit`."""
        self.check(request)
        if request.grammar is not None:
            lark(request.grammar)
        with self._changing:
            if self.closed:
                raise EngineFull("This engine is closed.", "Make a new one.")
            waiting = sum(job.generation.request.n for job in self._waiting)
            if waiting + request.n > self._most_waiting:
                raise EngineFull(f"{waiting} texts are waiting already.", "Try again later.")
            job = _Job(self, _LlamaGeneration(request, self, sink), self._order)
            self._order += 1
            self._waiting.append(job)
            self._waiting.sort(key=lambda one: one.rank)
            self._begin()
        return job.generation

    def start(self) -> None:
        """Nothing to do: threads are at work from the beginning."""

    def close(self) -> None:
        """See `Engine.close`."""
        with self._changing:
            self.closed = True
            left, self._waiting = self._waiting, []
            threads = list(self._running.values())
        for job in left:
            job.end_cancelled()
        for thread in threads:
            thread.join()
        self.server = None  # stops it, and waits until it has

    def stats(self) -> EngineStats:
        """See `Engine.stats`; the blocks are llama.cpp's slots, one for each text."""
        with self._changing:
            jobs = [job.generation for job in self._running]
            running = sum(one.request.n for one in jobs if not one.ended)
            waiting = sum(job.generation.request.n for job in self._waiting)
            used = sum(job.slots for job in self._running)
            read = [one.usage for one in jobs if one.usage.generated_tokens]
            prompt, cached, generated = (
                self._totals[name] + sum(getattr(usage, f"{name}_tokens") for usage in read) for name in self._totals
            )
        return EngineStats(running, waiting, used, self.slots, prompt, cached, generated)

    def drive(self, generation: Generation) -> None:
        """Nothing to do: threads are at work."""

    def forget(self, generation: Generation) -> None:
        """Somebody has cancelled it: end it, if it has not begun."""
        with self._changing:
            left = [job for job in self._waiting if job.generation is generation]
            self._waiting = [job for job in self._waiting if job.generation is not generation]
        for job in left:
            job.end_cancelled()

    @cached_property
    def cutter(self) -> Cutter:
        """What finds tokens by their bytes."""
        return Cutter(self.tokenizer)

    def _begin(self) -> None:
        """Give waiting requests the free slots, in order."""
        free = self.slots - sum(job.slots for job in self._running)
        while self._waiting and self._waiting[0].slots <= free:
            job = self._waiting.pop(0)
            free -= job.slots
            self._running[job] = Thread(target=self._work, args=(job,), name="tinyslm-llama.cpp", daemon=True)
            self._running[job].start()

    def _work(self, job: _Job) -> None:
        job.run()
        with self._changing:
            del self._running[job]
            usage = job.generation.usage
            if usage.generated_tokens:
                for name in self._totals:
                    self._totals[name] += getattr(usage, f"{name}_tokens")
            if not self.closed:
                self._begin()


class _LlamaGeneration(Generation):
    """One request under way, which may still wait for a slot."""

    def cancel(self) -> None:
        """See `Generation.cancel`."""
        super().cancel()
        engine = self._driver
        assert isinstance(engine, LlamaCppEngine)
        engine.forget(self)


class _Job:
    """A request on its way through llama.cpp."""

    def __init__(self, engine: LlamaCppEngine, generation: Generation, order: int) -> None:
        request = generation.request
        self.generation = generation
        self.rank = (request.priority, order)
        self.slots = min(request.n, engine.slots)
        self._engine = engine
        self._seed = secrets.randbits(31) if request.settings.seed is None else request.settings.seed
        self._answers = [Answer(generation, number, engine.tokenizer, engine.cutter) for number in range(request.n)]

    def run(self) -> None:
        """Ask until every sample has ended; what goes wrong ends them all."""
        request = self.generation.request
        rounds = deque(
            (request.prompt_ids, self._answers[start : start + self.slots]) for start in range(0, request.n, self.slots)
        )
        try:
            while rounds:
                prompt, answers = rounds.popleft()
                rounds += self._ask(prompt, answers)
        except Exception as error:  # whatever it is, somebody waits for an end
            self.generation.push(error)

    def end_cancelled(self) -> None:
        """Nobody waits for the rest."""
        for answer in self._answers:
            if not answer.finish:
                answer.end("cancelled")

    def _ask(self, prompt: Sequence[int], answers: list[Answer]) -> list[tuple[tuple[int, ...], list[Answer]]]:
        """Let llama.cpp go on from a prompt; returns what is to be asked then, as the context was full."""
        request = self.generation.request
        first = answers[0]
        for answer in answers:
            answer.ask_again()
        most = request.settings.max_tokens - first.tokens
        body = question(request, prompt, len(answers), seed=self._seed + first.number + first.tokens, most=most)
        mistakes: list[Exception] = []

        def take(chunk: Mapping[str, Any]) -> bool:
            """One chunk of the answer; returns whether no more are wanted."""
            try:
                self._take(chunk, answers)
            except Exception as error:  # it would be lost in llama.cpp
                mistakes.append(error)
            return bool(mistakes) or all(answer.finish or answer.full for answer in answers)

        if not self._is_unwanted():
            self._engine.server.handle_completions(body, take)
        if mistakes:
            raise mistakes[0]
        if self._is_unwanted():
            self.end_cancelled()
        half = self._engine.context // 2
        return [((*request.prompt_ids, *answer.ids)[-half:], [answer]) for answer in answers if answer.full]

    def _take(self, chunk: Mapping[str, Any], answers: list[Answer]) -> None:
        if self._is_unwanted():
            self.end_cancelled()
        elif "error" in chunk:
            raise RuntimeError(f"llama.cpp cannot go on: {chunk['error'].get('message')}")
        elif progress := chunk.get("prompt_progress"):
            if not self._answers[0].tokens:
                self.generation.usage.cached_tokens = int(progress["cache"])
        else:
            answer = answers[chunk["choices"][0]["index"]]
            if not answer.finish:
                answer.take(chunk)

    def _is_unwanted(self) -> bool:
        return self.generation.cancelled or self._engine.closed


def _slot_count(file: Gguf, places: int, options: EngineOptions) -> int:
    """How many texts there is room for: as the options' cache says, else a few within a quarter of the free memory."""
    most = options.limits.sequences
    if options.cache_tokens is not None:
        return max(1, min(most, options.cache_tokens // places))
    room = int(psutil.virtual_memory().available) // 4
    return max(1, min(most, USUAL_SLOTS, room // (places * _token_bytes(file))))


def _token_bytes(file: Gguf) -> int:
    """Bytes of one token's keys and values, two for each number."""
    of = file.need("general.architecture", str)
    depth, dim = file.need(f"{of}.block_count", int), file.need(f"{of}.embedding_length", int)
    heads = file.need(f"{of}.attention.head_count", int)
    kv_heads = file.get(f"{of}.attention.head_count_kv", int) or heads
    key = file.get(f"{of}.attention.key_length", int) or dim // max(1, heads)
    value = file.get(f"{of}.attention.value_length", int) or key
    return max(1, 2 * depth * kv_heads * (key + value))
