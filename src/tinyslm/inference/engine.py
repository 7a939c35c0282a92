"""The engine: requests in, tokens out. This is what all engines have in common; `batch_engine` holds our own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.generation import Generation, Sink
from tinyslm.inference.request import Completion, EngineStats, Piece, Request
from tinyslm.inference.settings import SamplingSettings
from tinyslm.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from tinyslm.inference.batch_engine import BatchEngine
    from tinyslm.inference.grammar import Grammar


class EngineFull(TinyslmError):
    """No further request is taken in before others have ended."""


class Engine(ABC):
    """Generates text.

    Without `start`, whoever iterates over a `Generation` drives the engine; after it, a thread does, and requests of
    many threads run side by side.

    Attributes: `name` of the way it computes; `tokenizer`; `context`: longest sequence, prompt and answer together;
    `default_sampling`: settings of requests that give none (see `read_default_sampling`).
    """

    name: str
    tokenizer: Tokenizer
    context: int
    default_sampling: SamplingSettings = SamplingSettings()

    @abstractmethod
    def submit(self, request: Request, sink: Sink | None = None) -> Generation:
        """Take a request in; with a sink, its pieces go there, in the engine's thread.

        Raises `TinyslmError` for a prompt that does not fit, a setting that this engine does not know, and (as
        `EngineFull`) when too many wait.
        """

    @abstractmethod
    def start(self) -> None:
        """Work in a thread of its own from now on."""

    @abstractmethod
    def close(self) -> None:
        """End what runs ("cancelled"), and free the memory."""

    @abstractmethod
    def stats(self) -> EngineStats:
        """What it is doing."""

    def embed(self, ids: Sequence[int]) -> NDArray[Any]:  # noqa: ARG002
        """The mean of the final hidden states over a text, fp32 `[dim]`."""
        raise TinyslmError(
            f"The {self.name} engine gives no hidden states.", "Use a model folder with the engine native or torch."
        )

    @staticmethod
    def load(
        folder: str | Path, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
    ) -> BatchEngine:
        """An engine of our own for a model folder; `dtype`: what it computes in, if not the usual (`usual_dtype`)."""
        from tinyslm.inference.batch_engine import load_engine

        return load_engine(folder, dtype=dtype, device=device)

    def complete(
        self,
        prompt: str,
        settings: SamplingSettings | None = None,
        n: int = 1,
        *,
        grammar: Grammar | None = None,
        heal: bool = True,
    ) -> list[Completion]:
        """`n` continuations of `prompt`, as a list; see `stream`."""
        return self.submit(self.completion_request(prompt, settings, n, grammar=grammar, heal=heal)).whole()

    def stream(
        self,
        prompt: str,
        settings: SamplingSettings | None = None,
        n: int = 1,
        *,
        grammar: Grammar | None = None,
        heal: bool = True,
    ) -> Iterator[Piece]:
        """`n` continuations of `prompt`, piece by piece as they come; an empty prompt starts a new document.

        settings: fields that are not given are the model's defaults (`default_sampling`). Sample `i` draws from a
        generator seeded with `seed + i`. heal: see `Request`. When the context is full, its older half is forgotten.
        Raises `TinyslmError` when the prompt alone does not fit the context.
        """
        yield from self.submit(self.completion_request(prompt, settings, n, grammar=grammar, heal=heal))

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        settings: SamplingSettings | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        grammar: Grammar | None = None,
        n: int = 1,
    ) -> list[Completion]:
        """`n` answers to a conversation; each message has a "role" and a "content"."""
        ids = self.chat_ids(messages, tools)
        request = Request(ids, self.with_defaults(settings), n, grammar, continues=False)
        return self.submit(request).whole()

    def chat_ids(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> tuple[int, ...]:
        """The ids of a conversation up to where the model is to answer, as its chat template writes it."""
        from tinyslm.inference.tool_calls import reads_tools, with_tools
        from tinyslm.tokenizer.chat import encode_chat

        told = with_tools(messages, tools or (), self.tokenizer)
        for_template = tools if tools and reads_tools(self.tokenizer) else None
        return tuple(encode_chat(self.tokenizer, told, add_generation_prompt=True, tools=for_template))

    def prompt_ids(self, prompt: str) -> tuple[int, ...]:
        """The ids of a text to go on from; those of an empty one start a new document."""
        ids = (*self.tokenizer.start_ids, *self.tokenizer.encode(prompt))
        return ids or (self.tokenizer.eos_id,)

    def with_defaults(self, given: SamplingSettings | None = None) -> SamplingSettings:
        """The settings of a request: the fields that were given, and this model's defaults for the others."""
        return self.default_sampling if given is None else given.over(self.default_sampling)

    def check(self, request: Request) -> None:
        """Raise `TinyslmError` for a request that cannot be served: what is asked comes from outside.

        There must be room for a token behind the prompt, and every id must be one of the tokenizer's.
        """
        count, size = len(request.prompt_ids), self.tokenizer.vocab_size
        if count >= self.context:
            raise TinyslmError(
                f"The prompt has {count} tokens; this model's context is {self.context}.",
                f"Shorten the prompt to at most {self.context - 1} tokens.",
            )
        if not count or request.n < 1:
            raise TinyslmError(
                f"The prompt has {count} tokens, and {request.n} samples are asked for.", "Give at least one of each."
            )
        if request.logprobs is not None and not 0 <= request.logprobs <= size:
            raise TinyslmError(f"{request.logprobs} probabilities cannot be told.", f"Ask for 0 to {size}.")
        wrong = [one for one in (*request.prompt_ids, *request.bias) if not isinstance(one, int) or not 0 <= one < size]
        if wrong:
            raise TinyslmError(
                f"There is no token {wrong[0]!r}; this model has {size}.", f"Give ids from 0 to {size - 1}."
            )
        if any(math.isnan(bias) for bias in request.bias.values()):
            raise TinyslmError("A bias is no number (NaN).", "Give numbers.")
        if request.grammar is not None and request.grammar.vocab_size != size:
            raise TinyslmError(
                f"The grammar was made for a tokenizer of {request.grammar.vocab_size} tokens; this model has {size}.",
                "Make it with this engine's tokenizer.",
            )

    def completion_request(
        self,
        prompt: str,
        settings: SamplingSettings | None = None,
        n: int = 1,
        *,
        grammar: Grammar | None = None,
        heal: bool = True,
    ) -> Request:
        """A request that continues `prompt`, to be submitted; the parameters are those of `stream`."""
        ids = self.prompt_ids(prompt)
        continues = len(ids) > len(self.tokenizer.start_ids)
        slides = grammar is None
        return Request(ids, self.with_defaults(settings), n, grammar, continues=continues, slides=slides, heal=heal)
