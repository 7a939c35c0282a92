"""Answers under way: the engine's pieces, passed from its thread into the event loop.

In each step, an engine produces pieces of many answers. They go into one queue, and the loop is woken once for all that
it holds. While pieces come faster than clients read, the loop polls every few milliseconds instead of being woken for
each; only the ends of answers wake it at once. So a token costs some microseconds of the loop, and no request needs a
thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial

from starlette.types import Receive

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.generation import Generation
from tinyslm.inference.request import Piece, Request, Usage
from tinyslm.serving.errors import ApiError, api_error, disconnected, too_slow
from tinyslm.serving.models import ServedModel
from tinyslm.serving.request_log import RequestLog

LOG = logging.getLogger("tinyslm.serving")

LAST_EVENT_SECONDS = 5.0
"""How long a client may take to read the last event of an answer that was ended early."""

POLL_SECONDS = 0.003
"""How long the pieces of fast engines gather."""


class ThreadToLoopQueue:
    """Delivers pieces from the engines' threads to answers in the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._posted: deque[tuple[AnswerStream, int, Piece | Exception]] = deque()
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None

    def post(self, answer: AnswerStream, first: int, piece: Piece | Exception) -> None:
        """Queue a piece, in any thread; first: the number of its request's first sample in the answer."""
        answer.log.token()
        self._posted.append((answer, first, piece))
        ends = isinstance(piece, Exception) or bool(piece.finish)
        if ends or not (self._scheduled or answer.whole):
            self._scheduled = True
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        while self._posted:
            answer, first, piece = self._posted.popleft()
            answer.put(first, piece)
        if self._timer is None:
            self._scheduled = True
            self._timer = self._loop.call_later(POLL_SECONDS, self._poll)

    def _poll(self) -> None:
        """Deliver what has come since the last time; if nothing has, wait to be woken."""
        self._timer = None
        self._scheduled = bool(self._posted)
        if self._posted:  # checked again: a piece may have come before `_scheduled` was set
            self._deliver()


class AnswerStream:
    """The answer to one HTTP request: the samples of its prompts, numbered consecutively, `n` per prompt.

    An asynchronous iterator over lists of (number, piece): all pieces since the last iteration. `close` ends what
    still runs and releases the model.

    Attributes: `log`: records the times of tokens, and text. `whole`: the response is sent at the end.
    """

    def __init__(
        self,
        model: ServedModel,
        requests: Sequence[Request],
        stack: AsyncExitStack,
        log: RequestLog,
        *,
        whole: bool = False,
    ) -> None:
        """stack: closed together with the answer."""
        self.model, self.requests, self.log, self.whole = model, requests, log, whole
        self.count = sum(request.n for request in requests)
        self._stack = stack
        self._generations: list[Generation] = []
        self._arrived: list[tuple[int, Piece]] = []
        self._news = asyncio.Event()
        self._left = self.count
        self._error: ApiError | None = None
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, queue: ThreadToLoopQueue) -> None:
        """Submit the requests to the engine; all of them, or none if one is rejected."""
        first = 0
        try:
            for request in self.requests:
                sink = partial(queue.post, self, first)
                self._generations.append(self.model.engine.submit(request, sink))
                first += request.n
        except BaseException:
            self._cancel()
            raise
        if self._error is not None:
            self._cancel()

    def limit(self, seconds: float, begun: float) -> None:
        """Stop it as too slow `seconds` after `begun`."""
        left = begun + seconds - time.perf_counter()
        self._timer = asyncio.get_running_loop().call_later(left, self.stop, too_slow(seconds))

    def stop(self, error: ApiError) -> None:
        """End it early: iterating raises `error`, and the iterating task is cancelled if it does not end soon."""
        self._error = self._error or error
        self._cancel()
        self._news.set()
        if self._task is not None:
            asyncio.get_running_loop().call_later(LAST_EVENT_SECONDS, self._task.cancel)

    async def stop_on_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.stop(disconnected())

    def put(self, first: int, piece: Piece | Exception) -> None:
        """Add a piece, or an exception of the engine."""
        if isinstance(piece, Exception):
            if not isinstance(piece, TinyslmError):
                LOG.error("The engine failed.", exc_info=piece, extra={"request": self.log.id})
            self._error = self._error or api_error(piece)
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
            if self._error is not None:
                raise self._error
            arrived, self._arrived = self._arrived, []
            left -= sum(bool(piece.finish) for _, piece in arrived)
            if self.log.texts is not None:
                self.log.texts += [piece.text for _, piece in arrived]
            if arrived:
                yield arrived

    @property
    def usage(self) -> Usage:
        """The tokens of all prompts and samples so far."""
        usages = [generation.usage for generation in self._generations]
        return Usage(
            sum(usage.prompt_tokens for usage in usages),
            sum(usage.cached_tokens for usage in usages),
            sum(usage.generated_tokens for usage in usages),
        )

    async def close(self) -> None:
        """Cancel what still runs, and release the model."""
        if self._timer is not None:
            self._timer.cancel()
        if self._left:
            self._cancel()
        self._task = None
        await self._stack.aclose()

    def _cancel(self) -> None:
        for generation in self._generations:
            generation.cancel()
