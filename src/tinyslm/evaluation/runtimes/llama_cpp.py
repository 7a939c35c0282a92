"""A GGUF file in llama.cpp, from the package `xllamacpp`, in this process.

Completions are function calls. The package has none for tokenizing and for chat templates: these go through its server,
on a free port of 127.0.0.1, which answers only to a key made for it alone.
"""

import http.client
import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.evaluation.protocols import Array, Message, Prompt, prompt_ids
from tinyslm.inference.gbnf import gbnf_of
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.inference.request import Completion
from tinyslm.inference.settings import SamplingSettings

F32 = 0
"""ggml's number for single precision."""
WAIT = 600.0
"""Seconds for an answer of the server."""
FORCED = 1e6
"""Added to a token's logit so that it is chosen."""
NO_SEED = 2**32 - 1
"""llama.cpp's seeds have 32 bits, and this one means none."""
GREEDY = {"temperature": 0.0, "samplers": ["penalties", "temperature"]}
FILTERS = ["penalties", "top_k", "temperature", "top_p", "min_p"]
"""Samplers in the order of our filters; the k likeliest tokens are the same before and after the temperature."""


class LlamaCpp:
    """A GGUF file as a `Runtime`, computed in single precision; texts are one token shorter than its context."""

    one_pass = False

    def __init__(self, path: Path, *, context: int, vocab_size: int, has_template: bool, threads: int = 1) -> None:
        """Raises `TinyslmError` if llama.cpp does not load the file."""
        self._server, key = _start_server(path, context, threads)
        self._place = urlsplit(self._server.listening_address).netloc
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self._vocab_size, self._has_template = vocab_size, has_template
        self._letter = self.encode("a")[-1]

    def close(self) -> None:
        """Stop llama.cpp, and wait until it has stopped."""
        self._server = None

    def encode(self, text: str) -> list[int]:
        """See `Scorer`."""
        return self._tokenize(text, special=False)

    def encode_chat(self, messages: Sequence[Message]) -> list[int] | None:
        """See `Scorer`."""
        if not self._has_template:
            return None
        return self._tokenize(self._ask("/apply-template", {"messages": list(messages)})["prompt"], special=True)

    def logprobs(self, ids: Sequence[int], positions: Sequence[int]) -> Array:
        """See `Scorer`."""
        return np.stack([self._next_logprobs(ids[: position + 1]) for position in positions])

    def generate(self, prompt: Prompt, settings: SamplingSettings) -> Completion:
        """See `Generator`."""
        return self._generate(prompt, settings)

    def generate_constrained(
        self, prompt: Prompt, settings: SamplingSettings, constraint: OutputConstraint
    ) -> Completion:
        """See `ConstrainedGenerator`; by llama.cpp's own grammars."""
        if constraint.kind == "schema":
            return self._generate(prompt, settings, json_schema=constraint.value)
        return self._generate(prompt, settings, grammar=gbnf_of(constraint))

    def _generate(self, prompt: Prompt, settings: SamplingSettings, **constraint: Any) -> Completion:
        ids = prompt_ids(self, prompt)
        drawn = {"samplers": FILTERS, **settings.model_dump(include={"temperature", "top_k", "top_p", "min_p"})}
        answer = self._complete(
            ids,
            n_predict=settings.max_tokens,
            seed=NO_SEED if settings.seed is None else settings.seed % NO_SEED,
            stop=list(settings.stop),
            repeat_penalty=settings.repetition_penalty,
            repeat_last_n=len(ids) + settings.max_tokens,
            frequency_penalty=settings.frequency_penalty,
            presence_penalty=settings.presence_penalty,
            **(GREEDY if settings.greedy else drawn),
            **constraint,
        )
        tokens = [int(token) for token in answer["tokens"]]
        given = tuple(tokens[:-1] if answer["stop_type"] == "eos" else tokens)
        return Completion(answer["content"], "length" if answer["stop_type"] == "limit" else "stop", len(tokens), given)

    def _next_logprobs(self, ids: Sequence[int]) -> Array:
        # An end, or a part of a character, comes without probabilities: so a letter is forced, after they are taken.
        forced = [[self._letter, FORCED]]
        answer = self._complete(ids, n_predict=1, n_probs=self._vocab_size, logit_bias=forced, **GREEDY)
        logprobs_v = np.full(self._vocab_size, -np.inf)
        for entry in answer["completion_probabilities"][0]["top_logprobs"]:
            if entry["logprob"] is not None:  # minus infinity, which JSON cannot say
                logprobs_v[entry["id"]] = entry["logprob"]
        # llama.cpp adds many probabilities up in single precision: they come to 1.0001 in all.
        found: Array = (logprobs_v - np.logaddexp.reduce(logprobs_v)).astype(np.float32)
        return found

    def _complete(self, ids: Sequence[int], **settings: Any) -> Mapping[str, Any]:
        """Continue exactly these ids; llama.cpp's own account of it, which has the ids."""
        answers: list[Mapping[str, Any]] = []
        body = {"prompt": list(ids), "cache_prompt": True, "return_tokens": True, "verbose": True, **settings}

        def take(answer: Mapping[str, Any]) -> bool:
            """Whether to stop."""
            answers.append(answer)
            return False

        self._server.handle_completions(body, take)
        if "error" in answers[-1]:
            raise RuntimeError(f"llama.cpp refuses a completion: {answers[-1]['error'].get('message')}")
        found: Mapping[str, Any] = answers[-1]["__verbose"]
        return found

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        """Ids of a text; with `special`, names of special tokens are these, and what begins every prompt is added."""
        content = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # as `Tokenizer.encode` does
        body = {"content": content, "add_special": special, "parse_special": special}
        return [int(token) for token in self._ask("/tokenize", body)["tokens"]]

    def _ask(self, place: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        with closing(http.client.HTTPConnection(self._place, timeout=WAIT)) as connection:
            connection.request("POST", place, json.dumps(body), self._headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        if response.status != http.client.OK:
            raise RuntimeError(f"llama.cpp answers {response.status} to {place}: {answer}")
        found: Mapping[str, Any] = answer
        return found


def _start_server(path: Path, context: int, threads: int) -> tuple[Any, str]:
    """llama.cpp with one file, and the key of its server. It stops when the last reference to it is dropped.

    Attention and cache are in single precision: it is the file that is measured, not llama.cpp.
    """
    try:
        import xllamacpp
    except ImportError:
        raise require_extra("gguf", "Running GGUF files in llama.cpp") from None
    key = secrets.token_hex(16)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.api_keys = [key]
    params.verbosity = -1
    params.n_ctx = context
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_threads_http = 1
    params.warmup = False
    params.fit_params = False
    params.ctx_shift = False
    params.cache_type_k = params.cache_type_v = F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_ram_mib = 0
    try:
        server = xllamacpp.Server(params)
    except Exception as error:  # it raises RuntimeError, and what its parts raise
        raise TinyslmError(
            f"llama.cpp does not load {path}: {error}.", "Export it again, or get the file again."
        ) from None
    # A server that is stopped before its loop has begun never ends, so wait for an answer of the loop.
    server.handle_completions({"prompt": [0], "n_predict": 1, "cache_prompt": False}, lambda _: False)
    return server, key
