"""What an engine is asked for, and what it answers piece by piece."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.settings import SamplingSettings

if TYPE_CHECKING:
    from tinyslm.inference.grammar import Grammar

Finish = Literal["", "stop", "length", "cancelled", "invalid"]


@dataclass(frozen=True)
class Request:
    """A prompt, and how it is to be continued.

    prompt_ids: begins with the tokenizer's `start_ids`, where it has such. n: samples of the same prompt; sample `i`
    draws with `settings.seed + i`. grammar: what the text must look like. logprobs: how many of the likeliest tokens
    are returned at each position besides the chosen one; `None`: no log-probabilities. priority: smaller goes first.
    continues: the text continues the prompt's, so that a leading space stays; an answer in a chat begins anew.
    slides: when the context is full, its older half is forgotten; otherwise the text ends with "length". bias: added
    to the logits of tokens, by id. heal: a prompt that ends inside a token is continued as if its text went on (token
    healing, see `healing`); not with a grammar, whose text begins after the prompt, and not in llama.cpp.
    """

    prompt_ids: tuple[int, ...]
    settings: SamplingSettings = field(default_factory=SamplingSettings)
    n: int = 1
    grammar: Grammar | None = None
    logprobs: int | None = None
    priority: int = 0
    continues: bool = True
    slides: bool = False
    bias: Mapping[int, float] = field(default_factory=dict)
    heal: bool = False


@dataclass(frozen=True)
class TokenScore:
    """Natural logarithms of probabilities, as the model gave them: before temperature, filters and grammar.

    repeats: bytes at the beginning of each of these tokens that repeat the end of a healed prompt.
    """

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    repeats: int = 0


@dataclass(frozen=True)
class Piece:
    """Some more of one sample: its number, the text that is certain now, and at its end why it ended.

    tokens: generated for this sample so far. finish: "stop" (an end token, a stop string, or the end of what the
    grammar allows), "length" (`max_tokens`, or a full context), "cancelled", "invalid" (a complete document that
    repeats items, although its JSON schema says `uniqueItems`), or "" until it ends. ids: of the tokens that came
    with this piece; scores: theirs, where asked for. The first token of a healed text may begin with the end of the
    prompt, which `text` does not repeat. end: the id of the end token that the model wrote, which `ids` leaves out.
    """

    sample: int
    text: str
    tokens: int
    finish: Finish
    ids: tuple[int, ...] = ()
    scores: tuple[TokenScore, ...] = ()
    end: int | None = None


@dataclass(frozen=True)
class Completion:
    """A whole generated text: why it ended, how many tokens were generated for it, and the end token, if any."""

    text: str
    finish: Finish
    tokens: int
    ids: tuple[int, ...] = ()
    scores: tuple[TokenScore, ...] = ()
    end: int | None = None


@dataclass
class Usage:
    """Tokens of one request: in the prompt, of those the ones that were in the cache already, and generated."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0


@dataclass(frozen=True)
class EngineStats:
    """What an engine is doing: samples that run and wait, blocks of its cache, and totals since it was made."""

    running: int = 0
    waiting: int = 0
    blocks_used: int = 0
    blocks_total: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    forced_tokens: int = 0


def check_request(request: Request, vocab_size: int, context: int) -> None:
    """Raise `TinyslmError` for a request that cannot be served.

    The context must have room for one token after the prompt, and every id must be one of the tokenizer's.
    """
    count, size = len(request.prompt_ids), vocab_size
    if count >= context:
        raise TinyslmError(
            f"The prompt has {count} tokens; this model's context is {context}.",
            f"Shorten the prompt to at most {context - 1} tokens.",
        )
    if not count or request.n < 1:
        raise TinyslmError(
            f"The prompt has {count} tokens, and {request.n} samples are asked for.", "Give at least one of each."
        )
    if request.logprobs is not None and not 0 <= request.logprobs <= size:
        raise TinyslmError(f"{request.logprobs} log-probabilities cannot be given.", f"Ask for 0 to {size}.")
    wrong = [one for one in (*request.prompt_ids, *request.bias) if not isinstance(one, int) or not 0 <= one < size]
    if wrong:
        raise TinyslmError(f"There is no token {wrong[0]!r}; this model has {size}.", f"Give ids from 0 to {size - 1}.")
    if any(math.isnan(bias) for bias in request.bias.values()):
        raise TinyslmError("A logit bias is not a number (NaN).", "Give numbers.")
    if request.grammar is not None and request.grammar.vocab_size != size:
        raise TinyslmError(
            f"The grammar was made for a tokenizer of {request.grammar.vocab_size} tokens; this model has {size}.",
            "Make it with this engine's tokenizer.",
        )
