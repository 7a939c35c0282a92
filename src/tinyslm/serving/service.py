"""What all routes share: from a body that was read to an answer under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar

from starlette.requests import Request as HttpRequest

from tinyslm.inference.request import Request
from tinyslm.serving.bridge import Answer, Mailbox
from tinyslm.serving.errors import api_error, full
from tinyslm.serving.grammars import NewGrammar
from tinyslm.serving.limits import Traffic
from tinyslm.serving.metrics import Metrics
from tinyslm.serving.models import Models, Served
from tinyslm.serving.settings import ServerSettings
from tinyslm.serving.shapes.body import Sampled
from tinyslm.serving.visit import visit_of

Result = TypeVar("Result")
Prepare = Callable[[Served], Sequence[Request]]
"""Makes the engine's requests, in a thread of its own: it may render templates, encode, and compile grammars."""

THREADS = 4
COMPILING_THREADS = 2
MOST_NEW_GRAMMARS = 64
"""New grammars that are being compiled or wait to be; each may take a second or two."""


class Service:
    """The models of one server and what is counted of them."""

    def __init__(self, settings: ServerSettings, models: Models) -> None:
        self.settings, self.models = settings, models
        self.metrics = Metrics(models)
        self.traffic = Traffic(settings.max_requests)
        self._pool = ThreadPoolExecutor(THREADS, "tinyslm-requests")
        self._compilers = ThreadPoolExecutor(COMPILING_THREADS, "tinyslm-grammars")
        self._compiling = 0
        self._mailbox: Mailbox | None = None

    async def begin(
        self, http: HttpRequest, body: Sampled, count: int, prepare: Prepare, writer: Callable[[Answer], Result]
    ) -> tuple[Answer, Result]:
        """Begin to answer, with `count` samples in all. The answer is to be run in `answering`, and at once.

        `writer` makes what will write the answer down, which is given back too: here, where a mistake in it still lets
        go of all that is held.
        Raises `ApiError` or `TinyslmError` when the request is refused.
        """
        visit = visit_of(http.scope)
        stack = AsyncExitStack()
        try:
            stack.enter_context(self.traffic.hold(count))
            served = await stack.enter_async_context(self.models.use(body.model))
            visit.model = served.name
            begun = time.perf_counter()
            requests = await self._prepared(prepare, served)
            answer = Answer(served, requests, stack, whole=not body.stream)
            assert answer.count == count, "another number of samples than was asked for"
            answer.times.begun = visit.begun
            if self.settings.log_prompts:
                visit.prompt = "\n".join(served.engine.tokenizer.decode(one.prompt_ids) for one in requests)
                answer.said = []
            written = writer(answer)
            stack.enter_context(self.traffic.keep(answer))
            answer.submit(self.mailbox)
        except BaseException:
            await stack.aclose()
            raise
        answer.limit(self.settings.max_seconds, begun)
        return answer, written

    @asynccontextmanager
    async def using(self, http: HttpRequest, model: str) -> AsyncIterator[Served]:
        """Use a model for something else than generating. Raises `ApiError`, or `TinyslmError`."""
        with self.traffic.hold(1):
            async with self.models.use(model) as served:
                visit_of(http.scope).model = served.name
                yield served

    @asynccontextmanager
    async def answering(self, http: HttpRequest, answer: Answer) -> AsyncIterator[None]:
        """Run an answer: it ends with the block, or when the client leaves."""
        visit = visit_of(http.scope)
        watcher = asyncio.ensure_future(answer.watch(http.receive))
        try:
            yield
        except BaseException as error:
            visit.ended = api_error(error).code if isinstance(error, Exception) else "cancelled"
            raise
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher
            await answer.close()
            visit.usage = answer.usage
            visit.answer = "".join(answer.said or ())
            visit.first = answer.times.first - answer.times.begun if answer.times.first else 0.0
            self.metrics.answer(answer)

    async def _prepared(self, prepare: Prepare, served: Served) -> Sequence[Request]:
        """The engine's requests. New grammars are compiled in separate threads: no other request waits for them."""
        while True:
            try:
                return await self.apart(lambda: prepare(served))
            except NewGrammar as new:
                await self._compile(new)

    async def _compile(self, new: NewGrammar) -> None:
        if self._compiling >= MOST_NEW_GRAMMARS:
            raise full(f"{self._compiling} new grammars are already waiting to be compiled. Try again in a moment.")
        self._compiling += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._compilers, new.compile)
        finally:
            self._compiling -= 1

    async def apart(self, work: Callable[[], Result]) -> Result:
        """Do work that takes its time in another thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    @property
    def mailbox(self) -> Mailbox:
        """What carries the engines' pieces into this loop."""
        if self._mailbox is None:
            self._mailbox = Mailbox(asyncio.get_running_loop())
        return self._mailbox

    async def close(self) -> None:
        """End everything."""
        self.traffic.stop()
        await self.models.close()
        for pool in (self._pool, self._compilers):
            pool.shutdown(wait=False)


def service_of(http: HttpRequest) -> Service:
    """The service behind a request."""
    service: Service = http.app.state.service
    return service
