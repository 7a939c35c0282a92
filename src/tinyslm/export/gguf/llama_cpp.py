"""A GGUF file in llama.cpp itself, as the package `xllamacpp` carries it: the runtime that an export is proved in."""

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from tinyslm.export.format import Options, Original, Written
from tinyslm.export.gguf.architectures import ARCHITECTURES
from tinyslm.export.gguf.llama_cpp_server import start_server

LONGEST = 2048
"""Tokens that the runtime makes room for, unless the model reads fewer: a check needs no more."""
WAIT = 600.0
"""Seconds for an answer."""
FORCED = 1e6
"""What is added to a token's logit so that it is chosen."""


@contextmanager
def open_file(written: Written, original: Original, options: Options) -> Iterator["LlamaCpp"]:
    """The file, loaded by llama.cpp until the block ends.

    Raises `TinyslmError` if llama.cpp does not load it.
    """
    config = original.model.config
    context = min(ARCHITECTURES[config.family].context(config), LONGEST)
    with server(written.path, context=context, threads=options.threads) as (address, key):
        yield LlamaCpp(address, key, config.vocab_size, has_template=original.tokenizer.chat_template is not None)


@contextmanager
def server(path: Path, *, context: int, threads: int) -> Iterator[tuple[str, str]]:
    """llama.cpp's server with one file: its address, and the key that it asks for.

    Attention computes in single precision: it is the file that is checked, not llama.cpp.
    """
    running, key = start_server(path, context=context, sequences=1, threads=threads, exact=True)
    try:
        yield running.listening_address, key
    finally:
        del running  # stops it, and waits until it has


class LlamaCpp:
    """llama.cpp with one model, as a `Runtime`. Its server reads one token less than the model's context."""

    def __init__(self, address: str, key: str, vocab_size: int, *, has_template: bool) -> None:
        self._place = urlsplit(address).netloc
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self._vocab_size = vocab_size
        self._has_template = has_template
        self._letter = self.encode("a")[-1]

    def encode(self, text: str) -> list[int]:
        """See `Runtime`."""
        return self._tokenize(text, special=False)

    def next_logprobs(self, ids: Sequence[int]) -> NDArray[Any]:
        """See `Runtime`."""
        # An end, or a part of a character, comes without probabilities: so a letter is forced, after they are taken.
        forced = [[self._letter, FORCED]]
        answer = self._complete(ids, n_predict=1, n_probs=self._vocab_size, logit_bias=forced)
        logprobs_v = np.full(self._vocab_size, -np.inf)
        for entry in answer["completion_probabilities"][0]["top_logprobs"]:
            if entry["logprob"] is not None:  # minus infinity, which JSON cannot say
                logprobs_v[entry["id"]] = entry["logprob"]
        # llama.cpp adds many probabilities up in single precision: they come to 1.0001 in all.
        found: NDArray[Any] = (logprobs_v - np.logaddexp.reduce(logprobs_v)).astype(np.float32)
        return found

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """See `Runtime`."""
        answer = self._complete(ids, n_predict=count, return_tokens=True)
        tokens = [int(token) for token in answer["tokens"]]
        return tokens[:-1] if answer["stop_type"] == "eos" else tokens

    def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int] | None:
        """See `Runtime`."""
        if not self._has_template:
            return None
        prompt = self._ask("/apply-template", {"messages": list(messages)})["prompt"]
        return self._tokenize(prompt, special=True)

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        """Ids of a text; with `special`, names of special tokens are these, and what begins every prompt is added."""
        content = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # as `Tokenizer.encode` does
        body = {"content": content, "add_special": special, "parse_special": special}
        return [int(token) for token in self._ask("/tokenize", body)["tokens"]]

    def _complete(self, ids: Sequence[int], **settings: Any) -> Mapping[str, Any]:
        """Go on from exactly these ids with the most probable tokens."""
        greedy = {"temperature": 0.0, "samplers": ["temperature"], "cache_prompt": True}
        return self._ask("/completion", {"prompt": list(ids), **greedy, **settings})

    def _ask(self, place: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        with closing(http.client.HTTPConnection(self._place, timeout=WAIT)) as connection:
            connection.request("POST", place, json.dumps(body), self._headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        if response.status != http.client.OK:
            raise RuntimeError(f"llama.cpp answers {response.status} to {place}: {answer}")
        found: Mapping[str, Any] = answer
        return found
