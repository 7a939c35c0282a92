"""From the engines' threads into the event loop.

An engine gives pieces of many answers in each of its steps. They are put down in one place, and the loop is woken once
for all that lie there. While pieces come faster than anybody reads, the loop looks every few milliseconds by itself
instead of being woken for each; only the ends of answers are never kept waiting. So a token costs some microseconds of
the loop, and no request needs a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

from starlette.types import Receive

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.generation import Generation
from tinyslm.inference.request import Piece, Request, Usage
from tinyslm.serving.errors import ApiError, api_error
from tinyslm.serving.models import Served

LOG = logging.getLogger("tinyslm.serving")

LAST_WORDS = 5.0
"""Seconds that a client gets to take the last event of an answer that was ended early."""


PAUSE = 0.003
"""Seconds in which the pieces of fast engines gather."""


class Mailbox:
    """What engines' threads give to answers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._posted: deque[tuple[Answer, int, Piece | Exception]] = deque()
        self._looking = False
        self._timer: asyncio.TimerHandle | None = None

    def post(self, answer: Answer, first: int, piece: Piece | Exception) -> None:
        """Take in a piece, in any thread; `first`: the number of its request's first sample in the answer."""
        answer.times.note()
        self._posted.append((answer, first, piece))
        ends = isinstance(piece, Exception) or bool(piece.finish)
        if ends or not (self._looking or answer.whole):
            self._looking = True
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        while self._posted:
            answer, first, piece = self._posted.popleft()
            answer.take(first, piece)
        if self._timer is None:
            self._looking = True
            self._timer = self._loop.call_later(PAUSE, self._look)

    def _look(self) -> None:
        """Deliver what has come since the last time; if nothing has, wait to be woken."""
        self._timer = None
        self._looking = bool(self._posted)
        if self._posted:  # asked again: a piece may have come before `_looking` was set
            self._deliver()


@dataclass
class Times:
    """Seconds on a clock that never goes back: when the request came, its first token and its last."""

    begun: float = field(default_factory=time.perf_counter)
    first: float = 0.0
    last: float = 0.0

    def note(self) -> None:
        """A token has come."""
        self.last = time.perf_counter()
        self.first = self.first or self.last


class Answer:
    """One request under way: its prompts' samples, numbered through, `n` of each prompt.

    It is an asynchronous iterator over lists of (number, piece): all that has come meanwhile. To be closed at the end,
    which ends what still runs and lets go of the model.

    said: a list to which all text is added, if there is one. whole: nobody looks at it before samples end.
    """

    def __init__(
        self, served: Served, requests: Sequence[Request], stack: AsyncExitStack, *, whole: bool = False
    ) -> None:
        self.served, self.requests, self.times, self.whole = served, requests, Times(), whole
        self.count = sum(request.n for request in requests)
        self.said: list[str] | None = None
        self._stack = stack
        self._generations: list[Generation] = []
        self._arrived: list[tuple[int, Piece]] = []
        self._news = asyncio.Event()
        self._left = self.count
        self._broken: ApiError | None = None
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, mailbox: Mailbox) -> None:
        """Give the requests to the engine; all of them, or none if one is refused."""
        first = 0
        try:
            for request in self.requests:
                sink = partial(mailbox.post, self, first)
                self._generations.append(self.served.engine.submit(request, sink))
                first += request.n
        except BaseException:
            self._cancel()
            raise
        if self._broken is not None:
            self._cancel()

    def limit(self, seconds: float, begun: float) -> None:
        """End it as too slow so many seconds after `begun`."""
        message = f"The answer was not complete after {seconds:g} seconds."
        error = ApiError(504, message, "time_limit", headers={"x-should-retry": "false"})
        self._timer = asyncio.get_running_loop().call_later(begun + seconds - time.perf_counter(), self.stop, error)

    def stop(self, error: ApiError) -> None:
        """End it early: whoever iterates over it gets `error`, and soon after is cancelled if it still has not left."""
        self._broken = self._broken or error
        self._cancel()
        self._news.set()
        if self._task is not None:
            asyncio.get_running_loop().call_later(LAST_WORDS, self._task.cancel)

    async def watch(self, receive: Receive) -> None:
        """End it when the client leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.stop(gone())

    def take(self, first: int, piece: Piece | Exception) -> None:
        """The mailbox's side: one piece more, or what went wrong."""
        if isinstance(piece, Exception):
            self._failed(piece)
        else:
            self._left -= bool(piece.finish)
            self._arrived.append((first + piece.sample, piece))
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[list[tuple[int, Piece]]]:
        self._task = asyncio.current_task()
        left = self.count
        while left:
            await self._news.wait()
            self._news.clear()
            if self._broken is not None:
                raise self._broken
            arrived, self._arrived = self._arrived, []
            left -= sum(bool(piece.finish) for _, piece in arrived)
            if self.said is not None:
                self.said += [piece.text for _, piece in arrived]
            if arrived:
                yield arrived

    @property
    def usage(self) -> Usage:
        """Tokens of all prompts and samples up to now."""
        used = [generation.usage for generation in self._generations]
        return Usage(
            sum(one.prompt_tokens for one in used),
            sum(one.cached_tokens for one in used),
            sum(one.generated_tokens for one in used),
        )

    async def close(self) -> None:
        """End what still runs, and let go of the model."""
        if self._timer is not None:
            self._timer.cancel()
        if self._left:
            self._cancel()
        self._task = None
        await self._stack.aclose()

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, TinyslmError):
            LOG.error("The engine failed.", exc_info=error)
        self._broken = self._broken or api_error(error)

    def _cancel(self) -> None:
        for generation in self._generations:
            generation.cancel()


def gone() -> ApiError:
    """The client has left; nobody reads this."""
    return ApiError(499, "The client has closed the connection.", "client_gone")
