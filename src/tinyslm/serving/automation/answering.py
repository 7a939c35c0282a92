"""Many requests to one engine at a time, and their answers in the order in which they were asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.request import Completion, Piece, Request, Usage

if TYPE_CHECKING:
    from tinyslm.inference.engine import Engine
    from tinyslm.inference.generation import Generation

MOST_AHEAD = 4
"""Rows may be answered ahead of one that takes longer, up to so many times the requests that run side by side."""

Mark = TypeVar("Mark")


@dataclass(frozen=True)
class Ask(Generic[Mark]):
    """A request, or what kept it from being made; `mark` comes back with the answer."""

    mark: Mark
    request: Request | None = None
    problem: str = ""


@dataclass(frozen=True)
class Answer(Generic[Mark]):
    """What became of an `Ask`: its samples, or a problem."""

    mark: Mark
    request: Request | None = None
    completions: tuple[Completion, ...] = ()
    problem: str = ""
    usage: Usage = field(default_factory=Usage)


def answers(engine: Engine, asks: Iterable[Ask[Mark]], concurrency: int) -> Iterator[Answer[Mark]]:
    """The answers to `asks`, in order, with at most `concurrency` requests under way; the engine must be started.

    What the engine refuses, or fails at, becomes the problem of that answer. A request that ends because of another
    one's failure is tried once more. Whoever stops early has cancelled the rest.
    """
    assert concurrency > 0
    pump: _Pump[Mark] = _Pump(engine)
    source = enumerate(asks)
    taken = given = 0
    more = True
    try:
        while more or given < taken:
            while more and len(pump.under_way) < concurrency and taken - given < MOST_AHEAD * concurrency:
                if (following := next(source, None)) is None:
                    more = False
                else:
                    taken += 1
                    pump.begin(*following)
            if given in pump.done:
                yield pump.done.pop(given)
                given += 1
            elif pump.under_way:
                pump.wait()
    finally:
        pump.cancel()


@dataclass
class _UnderWay(Generic[Mark]):
    ask: Ask[Mark]
    pieces: list[Piece]
    left: int
    tries: int
    generation: Generation | None = None


class _Pump(Generic[Mark]):
    """Requests under way and answers that are done, by the number of the ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._arrived: SimpleQueue[tuple[int, Piece | Exception]] = SimpleQueue()
        self.under_way: dict[int, _UnderWay[Mark]] = {}
        self.done: dict[int, Answer[Mark]] = {}

    def begin(self, number: int, ask: Ask[Mark], tries: int = 1) -> None:
        """Hand one request to the engine, or answer at once."""
        if ask.request is None:
            self.done[number] = Answer(ask.mark, ask.request, problem=ask.problem)
            return
        one = self.under_way[number] = _UnderWay(ask, [], ask.request.n, tries)
        try:
            one.generation = self._engine.submit(ask.request, partial(self._arrive, number))
        except TinyslmError as error:
            del self.under_way[number]
            self.done[number] = Answer(ask.mark, ask.request, problem=error.problem)

    def wait(self) -> None:
        """Take in the next piece of any request."""
        number, piece = self._arrived.get()
        one = self.under_way[number]
        if isinstance(piece, Exception):
            del self.under_way[number]
            self._failed(number, one, piece)
            return
        one.pieces.append(piece)
        one.left -= bool(piece.finish)
        if not one.left:
            del self.under_way[number]
            self.done[number] = _answer(one)

    def cancel(self) -> None:
        """Nobody waits for the rest."""
        for one in self.under_way.values():
            if one.generation is not None:
                one.generation.cancel()

    def _arrive(self, number: int, piece: Piece | Exception) -> None:
        self._arrived.put((number, piece))

    def _failed(self, number: int, one: _UnderWay[Mark], error: Exception) -> None:
        if one.tries == 1:
            self.begin(number, one.ask, tries=2)
            return
        problem = error.problem if isinstance(error, TinyslmError) else f"{type(error).__name__}: {error}"
        self.done[number] = Answer(one.ask.mark, one.ask.request, problem=problem)


def _answer(one: _UnderWay[Mark]) -> Answer[Mark]:
    assert one.ask.request is not None
    assert one.generation is not None
    completions = []
    for sample in range(one.ask.request.n):
        pieces = [piece for piece in one.pieces if piece.sample == sample]
        completions.append(
            Completion(
                "".join(piece.text for piece in pieces),
                pieces[-1].finish,
                pieces[-1].tokens,
                tuple(token for piece in pieces for token in piece.ids),
                tuple(score for piece in pieces for score in piece.scores),
            )
        )
    return Answer(one.ask.mark, one.ask.request, tuple(completions), usage=one.generation.usage)
