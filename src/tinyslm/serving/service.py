"""What all routes share: from a parsed body to an answer under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import TypeVar
from weakref import WeakSet

from starlette.requests import Request as HttpRequest

from tinyslm.inference.grammar import Grammar
from tinyslm.inference.request import Request
from tinyslm.serving.answers import AnswerStream, ThreadToLoopQueue
from tinyslm.serving.api_keys import ApiKeys
from tinyslm.serving.constraints import GrammarCompiler, GrammarSpec
from tinyslm.serving.errors import api_error, full, shutting_down
from tinyslm.serving.metrics import Metrics
from tinyslm.serving.models import Models, ServedModel
from tinyslm.serving.request_log import RequestLog, log_of
from tinyslm.serving.response_store import ResponseStore
from tinyslm.serving.schemas.common import GenerationBody
from tinyslm.serving.settings import ServerSettings

Result = TypeVar("Result")
Prepare = Callable[[ServedModel, Grammar | None], Sequence[Request]]
"""Makes the engine's requests, in a thread: it may render templates and encode text."""

THREADS = 4
MAX_INSPECTIONS = 8


class Admission:
    """Limits how many samples are under way. `closing`: no more are admitted."""

    def __init__(self, limit: int) -> None:
        self.closing = False
        self.samples = 0
        self._limit = limit
        self._answers: WeakSet[AnswerStream] = WeakSet()
        self._stopped = False

    @contextmanager
    def admit(self, samples: int) -> Iterator[None]:
        """Reserve room for some samples while the block runs. Raises `ApiError` if there is none."""
        if self.closing:
            raise shutting_down()
        if self.samples + samples > self._limit:
            raise full(f"{self.samples} answers are under way; the limit is {self._limit}.")
        self.samples += samples
        try:
            yield
        finally:
            self.samples -= samples

    def track(self, answer: AnswerStream) -> None:
        """Let `stop` end an answer."""
        self._answers.add(answer)
        if self._stopped:
            answer.stop(shutting_down())

    def stop(self) -> None:
        """End all answers, also those that are still being prepared."""
        self.closing = self._stopped = True
        for answer in list(self._answers):
            answer.stop(shutting_down())


class Service:
    """The state of one server: its models, its keys, its answers, its metrics.

    Attributes: `at_stop`: what to call when answers are ended because the server stops.
    """

    def __init__(self, settings: ServerSettings, models: Models, keys: ApiKeys) -> None:
        self.settings, self.models, self.keys = settings, models, keys
        self.metrics = Metrics(models)
        self.admission = Admission(settings.max_requests)
        self.inspections, self.inspection_lock = Admission(MAX_INSPECTIONS), asyncio.Lock()
        self.responses = ResponseStore()
        self.grammars = GrammarCompiler()
        self._threads = ThreadPoolExecutor(THREADS, "tinyslm-requests")
        self._queue: ThreadToLoopQueue | None = None
        self.at_stop: list[Callable[[], None]] = []

    async def begin(
        self, log: RequestLog, body: GenerationBody, count: int, grammar: GrammarSpec | None, prepare: Prepare
    ) -> AnswerStream:
        """Begin an answer with `count` samples in all; it must be closed by running it in `answering`.

        Raises `ApiError` or `TinyslmError` if the request is rejected.
        """
        stack = AsyncExitStack()
        try:
            stack.enter_context(self.admission.admit(count))
            model = await stack.enter_async_context(self.models.use(body.model))
            log.model = model.name
            begun = time.perf_counter()
            compiled = await self.grammars.get(grammar, model) if grammar else None
            requests = await self.in_thread(lambda: prepare(model, compiled))
            answer = AnswerStream(model, requests, stack, log, whole=not body.stream)
            assert answer.count == count, "another number of samples than requested"
            if self.settings.log_prompts:
                log.prompt = "\n".join(model.engine.tokenizer.decode(request.prompt_ids) for request in requests)
                log.texts = []
            self.admission.track(answer)
            self._queue = self._queue or ThreadToLoopQueue(asyncio.get_running_loop())
            answer.submit(self._queue)
        except BaseException:
            await stack.aclose()
            raise
        answer.limit(self.settings.max_seconds, begun)
        return answer

    @asynccontextmanager
    async def using(self, http: HttpRequest, name: str) -> AsyncIterator[ServedModel]:
        """Use a model without generating text. Raises `ApiError` or `TinyslmError`."""
        with self.admission.admit(1):
            async with self.models.use(name) as model:
                log_of(http.scope).model = model.name
                yield model

    @asynccontextmanager
    async def answering(self, http: HttpRequest, answer: AnswerStream) -> AsyncIterator[None]:
        """Run an answer: it ends with the block, or when the client disconnects."""
        log = log_of(http.scope)
        watcher = asyncio.ensure_future(answer.stop_on_disconnect(http.receive))
        try:
            yield
        except BaseException as error:
            log.ended = api_error(error).code if isinstance(error, Exception) else "cancelled"
            raise
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher
            await answer.close()
            log.usage = answer.usage
            self.metrics.answer(answer)

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Run work that takes some time in another thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def stop(self) -> None:
        """End all answers, and what `at_stop` ends: streams that would go on for as long as a page is open."""
        self.admission.stop()
        while self.at_stop:
            self.at_stop.pop()()

    async def close(self) -> None:
        self.stop()
        await self.models.close()
        self.grammars.close()
        self._threads.shutdown(wait=False)


def service_of(http: HttpRequest) -> Service:
    service: Service = http.app.state.service
    return service
