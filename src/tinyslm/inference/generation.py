"""One request under way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from threading import Event
from typing import Protocol

from tinyslm.inference.request import Completion, Piece, Request, Usage

Sink = Callable[[Piece | Exception], None]
"""Takes the pieces of a request as they come, in the engine's thread; or what went wrong, which ends it."""


class Driver(Protocol):
    """What a generation asks of its engine."""

    def drive(self, generation: Generation) -> None:
        """Return when there is more in the generation's queue, after taking the steps for it unless a thread does."""


class Generation:
    """The pieces of one request. Iterate over it, or give a sink; `cancel` ends it early, from any thread."""

    def __init__(self, request: Request, driver: Driver, sink: Sink | None = None) -> None:
        self.request = request
        self.usage = Usage(prompt_tokens=len(request.prompt_ids))
        self._driver = driver
        self._queue: SimpleQueue[Piece | Exception] = SimpleQueue()
        self._sink = sink or self._queue.put
        self._open = request.n
        self._cancelled = Event()

    def __iter__(self) -> Iterator[Piece]:
        """Pieces of all samples, as they come, until every sample has ended; raises what went wrong in the engine.

        Whoever stops before the end has cancelled it.
        """
        left = self.request.n
        try:
            while left:
                if self._queue.empty():
                    if self.ended:  # the pieces were consumed before
                        left = 0
                        return
                    self._driver.drive(self)
                piece = self._queue.get()
                if isinstance(piece, Exception):
                    raise piece
                left -= bool(piece.finish)
                yield piece
        finally:
            if left:
                self.cancel()

    def cancel(self) -> None:
        """End it within one step; samples that have not ended finish as "cancelled"."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled.is_set()

    @property
    def ended(self) -> bool:
        """Whether every sample has ended."""
        return not self._open

    @property
    def waits(self) -> bool:
        """Whether iterating would have to wait."""
        return self._queue.empty()

    def push(self, piece: Piece | Exception) -> None:
        """The engine's side: one piece more, or what went wrong."""
        if isinstance(piece, Exception):
            self._open = 0
        else:
            self._open -= bool(piece.finish)
        try:
            self._sink(piece)
        except Exception:  # the listener's fault, which must not reach the engine's other requests
            logging.getLogger(__name__).exception("A listener failed; its request is cancelled.")
            self.cancel()

    def whole(self) -> list[Completion]:
        """All pieces joined: one completion per sample."""
        return join_pieces(self, self.request.n)


def join_pieces(pieces: Iterable[Piece], n: int = 1) -> list[Completion]:
    """The completions of `n` samples, from all pieces of a request."""
    samples: list[list[Piece]] = [[] for _ in range(n)]
    for piece in pieces:
        samples[piece.sample].append(piece)
    return [
        Completion(
            "".join(piece.text for piece in sample),
            sample[-1].finish if sample else "",
            sample[-1].tokens if sample else 0,
            tuple(token for piece in sample for token in piece.ids),
            tuple(score for piece in sample for score in piece.scores),
            sample[-1].end if sample else None,
        )
        for sample in samples
    ]
