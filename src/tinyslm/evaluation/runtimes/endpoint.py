"""A server with an OpenAI-compatible API (llama.cpp, vLLM, Ollama, `tinyslm serve`) as a runtime."""

from __future__ import annotations

import http.client
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.answers import CONSTRAINTS_UNSUPPORTED, Answers, GenerationRequest, Progress
from tinyslm.evaluation.continuations import Reading
from tinyslm.evaluation.protocols import Continuation, ContinuationScore, Message, Prompt
from tinyslm.inference.request import Completion, Finish, Piece, Usage
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.tools.chat import Answer, PromptTooLong, cut_off
from tinyslm.inference.tools.policy import Choice
from tinyslm.tokenizer.tool_calls import CLOSE, OPEN

KEY_VARIABLE = "OPENAI_API_KEY"
"""The environment variable with the key, where the server asks for one."""
FINISHES: Mapping[str | None, Finish] = {"length": "length", "content_filter": "invalid"}
"""Finish reasons; every other one is "stop"."""


AT_ONCE = 8
"""Concurrent requests."""
RETRIES, RETRY_SECONDS, LONGEST_WAIT = 6, 1.0, 60.0
"""Attempts while the server is busy; the first wait, which doubles each time unless the server says how long to wait;
and the longest wait."""


class EndpointBusy(TinyslmError):
    """The server is overloaded. after: the seconds that it asks to wait, or `None`."""

    after: float | None = None


class Endpoint:
    """A model behind `url`, such as `http://127.0.0.1:8000/v1`.

    Attributes: `name`: the address; `model`: what the server calls the model, its first one if not given.
    """

    def __init__(self, url: str, model: str = "", *, key: str | None = None, timeout: float = 600.0) -> None:
        """key: by default from `KEY_VARIABLE`. timeout: seconds without an answer. Raises `TinyslmError`."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TinyslmError(f"{url} is not the address of a server.", "For instance: http://127.0.0.1:8000/v1")
        self.name = url
        self._parts, self._timeout = parts, timeout
        self._path = parts.path.rstrip("/") or "/v1"
        key = os.environ.get(KEY_VARIABLE, "") if key is None else key
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self.model = model or self._first_model()

    def generate(self, prompt: Prompt, settings: SamplingSettings) -> Completion:
        """See `Generator`; token ids are not known, and only the sampling settings that were given are sent."""
        return self.answer(prompt, settings)[0]

    def answer(
        self,
        prompt: Prompt | str,
        settings: SamplingSettings,
        schema: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> tuple[Completion, Usage]:
        """Like `generate`, with the token usage; also accepts a text to continue. schema: a JSON schema of the answer.
        tools: what the model may call; the text of the completion contains the calls.

        Raises `TinyslmError` if the request fails, and `EndpointBusy` if the server stays busy.
        """
        body = sampling(settings)
        if schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        if prompt and isinstance(prompt[0], Mapping):
            offered = {"tools": list(tools)} if tools else {}
            said = [_outside(one) for one in prompt if isinstance(one, Mapping)]
            choice, usage = self._answer("/chat/completions", {"messages": said, **offered, **body})
            message = choice.get("message") or {}
            text = (message.get("content") or "") + "".join(map(_call_text, message.get("tool_calls") or ()))
        else:
            choice, usage = self._answer("/completions", {"prompt": prompt, **body})
            text = choice.get("text")
        finish = FINISHES.get(choice.get("finish_reason"), "stop")
        return Completion(text or "", finish, usage.generated_tokens), usage

    def answer_many(
        self, asked: Sequence[GenerationRequest], _reading: Reading, settings: SamplingSettings, progress: Progress
    ) -> Answers:
        """See `BatchGenerator`: sends `AT_ONCE` requests at a time. The server enforces the length of prompts."""
        if any(one.constraint for one in asked):
            raise TinyslmError(*CONSTRAINTS_UNSUPPORTED)
        found: list[Completion] = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for completion, _ in pool.map(lambda one: self.answer(one.prompt, settings, tools=one.tools), asked):
                found.append(completion)
                progress("answering", len(found), len(asked))
        return Answers(found)

    def score_text(self, request: Continuation) -> ContinuationScore:
        """See `TextScorer`. A token that spans the boundary counts as part of the continuation.

        Raises `TinyslmError` for servers that do not score prompts (`echo` with `logprobs`), and if the tokens of the
        response do not spell the text.
        """
        text, whole = request.context, request.context + request.text
        body = {"prompt": whole, "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True}
        scores = self._answer("/completions", body)[0].get("logprobs") or {}
        logprobs: list[float] = []
        greedy, at = True, 0
        try:
            tokens, given, best = scores["tokens"], scores["token_logprobs"], scores.get("top_logprobs") or []
            if not "".join(tokens).startswith(whole):
                raise TinyslmError(
                    f"{self.name} scores a different text from the one it was given.", "Use another server."
                )
            for index, (token, logprob) in enumerate(zip(tokens, given, strict=True)):
                at += len(token)
                if len(text) < at <= len(whole) and logprob is not None:  # the first token of all has none
                    logprobs.append(float(logprob))
                    first = best[index] if index < len(best) else None
                    greedy = greedy and isinstance(first, dict) and logprob >= max(first.values(), default=logprob)
        except (KeyError, TypeError, ValueError, AttributeError):
            logprobs = []
        if not logprobs:
            raise TinyslmError(
                f"{self.name} does not return the probabilities of a prompt's tokens.",
                "Use a server that supports `echo` with `logprobs`, such as vLLM.",
            )
        return ContinuationScore(math.fsum(logprobs), len(logprobs), greedy)

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The chunks of a streamed answer; leaving it early ends the request. Raises `TinyslmError`."""
        streamed = {"model": self.model, "stream": True, "stream_options": {"include_usage": True}, **body}
        with self._asked("POST", path, streamed) as response:
            for line in response:
                data = line.removeprefix(b"data:").strip()
                if line.startswith(b"data:") and data != b"[DONE]":
                    chunk = json.loads(data)
                    if "error" in chunk:
                        raise TinyslmError(f"{self.name} gave up: {chunk['error']}", "Try again.")
                    yield chunk

    def _first_model(self) -> str:
        with self._asked("GET", "/models", None) as response:
            listed = _read(response)
        names = [entry.get("id") for entry in listed.get("data") or () if isinstance(entry, Mapping)]
        if not names:
            raise TinyslmError(f"{self.name} lists no models.", "Name the model that it serves.")
        return str(names[0])

    def _answer(self, path: str, body: Mapping[str, Any]) -> tuple[Mapping[str, Any], Usage]:
        """The first choice, and the numbers of tokens; a busy server is asked again."""
        for attempt in range(RETRIES):
            try:
                with self._asked("POST", path, {"model": self.model, **body}) as response:
                    answer = _read(response)
                break
            except EndpointBusy as busy:
                if attempt == RETRIES - 1:
                    raise
                wait = RETRY_SECONDS * 2**attempt if busy.after is None else busy.after
                time.sleep(min(LONGEST_WAIT, wait))
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
            raise TinyslmError(f"{self.name} gave an answer without choices.", "Check that it speaks OpenAI's API.")
        return choices[0], _usage(answer.get("usage") or {})

    @contextmanager
    def _asked(self, method: str, path: str, body: Mapping[str, Any] | None) -> Iterator[http.client.HTTPResponse]:
        """The response to a request; raises `TinyslmError` for everything but success."""
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        with closing(kind(self._parts.netloc, timeout=self._timeout)) as connection:
            try:
                connection.request(method, self._path + path, json.dumps(body) if body else None, self._headers)
                response = connection.getresponse()
                if response.status != http.client.OK:
                    raise _refusal(self.name, response)
                yield response
            except (OSError, http.client.HTTPException) as error:
                problem = f"{self.name} does not answer: {error}."
                raise TinyslmError(problem, "Start the server, or check the address.") from None


def sampling(settings: SamplingSettings) -> dict[str, Any]:
    """The settings that were given, and the number of tokens, as the API names them."""
    return {**settings.model_dump(mode="json", exclude_unset=True), "max_tokens": settings.max_tokens}


def _call_text(call: Mapping[str, Any]) -> str:
    """A tool call of an answer, as our models write it."""
    function = call.get("function") or {}
    name, arguments = json.dumps(str(function.get("name"))), function.get("arguments") or "{}"
    return f'{OPEN}\n{{"name":{name},"arguments":{arguments}}}\n{CLOSE}\n'


class EndpointChat:
    """A model behind an endpoint, with tools, as a `ChatModel`. The server is trusted to write valid calls."""

    checksum = ""
    result_tokens = 1024

    def __init__(
        self,
        endpoint: Endpoint,
        tools: Sequence[Mapping[str, Any]],
        settings: SamplingSettings,
        *,
        parallel: bool = True,
    ) -> None:
        self.name, self.settings = endpoint.name, settings.over(SamplingSettings())
        self._endpoint = endpoint
        self._tools = {"tools": list(tools), "parallel_tool_calls": parallel} if tools else {}

    def chat(self, messages: Sequence[Message], settings: SamplingSettings, choice: Choice) -> Answer:
        """See `ChatModel`."""
        choosing = {**self._tools, "tool_choice": choice} if self._tools else {}
        body = {"messages": [_outside(message) for message in messages], **choosing, **sampling(settings)}
        chunks = self._endpoint.stream("/chat/completions", body)
        first = next(chunks, {})  # a refusal is raised here
        return _EndpointAnswer(chain([first], chunks))

    def shorten(self, text: str, tokens: int) -> str:
        """See `ChatModel`; the tokenizer is not known, and four characters count as a token."""
        return text if len(text) <= 4 * tokens else cut_off(text[: 4 * tokens], text)


class _EndpointAnswer:
    """A streamed chat completion; calls come as text when they are complete."""

    def __init__(self, chunks: Iterator[Mapping[str, Any]]) -> None:
        self.usage = Usage()
        self._chunks = chunks
        self._cancelled = False

    def __iter__(self) -> Iterator[Piece]:
        """See `Answer`."""
        calls: dict[int, dict[str, str]] = {}
        finish: Finish = "stop"
        for chunk in self._chunks:
            if used := chunk.get("usage"):
                self.usage = _usage(used)
            for choice in chunk.get("choices") or ():
                delta = choice.get("delta") or {}
                if text := delta.get("content"):
                    yield Piece(0, text, self.usage.generated_tokens, "")
                for part in delta.get("tool_calls") or ():
                    function = part.get("function") or {}
                    call = calls.setdefault(part.get("index", 0), {"name": "", "arguments": ""})
                    for key in call:
                        call[key] += function.get(key) or ""
                finish = FINISHES.get(choice.get("finish_reason"), finish)
            if self._cancelled:
                finish = "cancelled"
                break
        written = "".join(
            f'{OPEN}\n{{"name":{json.dumps(call["name"])},"arguments":{call["arguments"] or "{}"}}}\n{CLOSE}\n'
            for call in calls.values()
        )
        yield Piece(0, written, self.usage.generated_tokens, finish)

    def cancel(self) -> None:
        """See `Answer`."""
        self._cancelled = True


def _usage(used: Mapping[str, Any]) -> Usage:
    return Usage(used.get("prompt_tokens") or 0, generated_tokens=used.get("completion_tokens") or 0)


def _outside(message: Message) -> Message:
    """A message of the loop as the API has it: arguments of calls as JSON text."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message.get("tool_calls") or ()
    ]
    return {**message, "tool_calls": calls} if calls else message


def _read(response: http.client.HTTPResponse) -> Mapping[str, Any]:
    try:
        found = json.loads(response.read())
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        raise TinyslmError("The server's answer is not a JSON object.", "Check that it speaks OpenAI's API.")
    return found


def _refusal(name: str, response: http.client.HTTPResponse) -> TinyslmError:
    """What a status other than 200 says."""
    raw = text = response.read(10_000).decode("utf-8", "replace")
    with suppress(ValueError, KeyError, TypeError):  # a body in another form is shown as it is
        error = json.loads(text)["error"]
        text = str(error["message"] if isinstance(error, Mapping) else error)
    keyed = response.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN)
    remedy = f"Put its key into {KEY_VARIABLE}." if keyed else "Change the request, or the server's settings."
    problem = f"{name} answers {response.status}: {' '.join(text.split())[:300]}"
    if response.status in (http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE):
        busy = EndpointBusy(problem, "Try again later.")
        with suppress(ValueError):  # it may also be a date
            busy.after = max(0.0, float(response.headers.get("Retry-After") or "none"))
        return busy
    kind = PromptTooLong if response.status == http.client.BAD_REQUEST and "context" in raw else TinyslmError
    return kind(problem, remedy)
