"""What llama.cpp is asked for a request, and its answer as pieces of text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.request import Finish, Piece, Request, TokenScore
from tinyslm.inference.stop import StopStrings
from tinyslm.tokenizer.stream import TextStream
from tinyslm.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tinyslm.inference.generation import Generation
    from tinyslm.inference.grammar import Grammar, Matcher

NO_SEED = 2**32 - 1
"""llama.cpp's seeds have 32 bits, and this one means that there is none."""
FAR = 2**17
"""The penalties look back over so many tokens at most; llama.cpp takes memory for them."""
LIKELIEST = {"samplers": ["penalties", "temperature"]}
DRAWN = {"samplers": ["penalties", "top_k", "temperature", "top_p", "min_p"]}
"""What reshapes the probabilities, in order; the k likeliest are the same after the temperature."""


def question(request: Request, prompt: Sequence[int], count: int, *, seed: int, most: int) -> dict[str, Any]:
    """The body for `count` samples of a prompt, of at most `most` tokens; sample `i` draws with `seed + i`."""
    settings = request.settings
    body: dict[str, Any] = {
        "prompt": list(prompt),
        "n": count,
        "n_predict": most,
        "seed": seed % NO_SEED,
        "temperature": 0.0 if settings.greedy else settings.temperature,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "min_p": settings.min_p,
        "repeat_penalty": settings.repetition_penalty,
        "repeat_last_n": min(len(prompt) + most, FAR),
        "frequency_penalty": settings.frequency_penalty,
        "presence_penalty": settings.presence_penalty,
        "logit_bias": [[token, bias] for token, bias in request.bias.items()],
        "stop": [text for text in settings.stop if text],
        "stream": True,
        "cache_prompt": True,
        "return_tokens": True,
        "return_progress": True,
        "verbose": True,  # ids are told only so
        **(LIKELIEST if settings.greedy else DRAWN),
    }
    if request.logprobs is not None:
        body["n_probs"] = max(1, request.logprobs)
    if request.grammar is not None:
        body["grammar"] = lark(request.grammar)
    return body


def lark(grammar: Grammar) -> str:
    """A grammar for llama.cpp, which hands it on to the llguidance that is built into it.

    Raises `TinyslmError` for JSON schemas: that llguidance is older, and reads some of them otherwise.
    """
    source = grammar.source
    if source.startswith("{"):
        (only,) = json.loads(source)["grammars"]
        source = only.get("lark_grammar") or "%json"
    if "%json" in source:
        raise _not_followed(grammar)
    return f"%llguidance {{}}\n{source}"


def _not_followed(grammar: Grammar) -> TinyslmError:
    return TinyslmError(
        f"{grammar.what} cannot be followed in llama.cpp, which contains an older grammar library.",
        "Run a model folder (tinyslm import FILE.gguf --out MODEL), or give choices, an expression or a grammar.",
    )


class Cutter:
    """Finds the tokens of some bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        special = set(tokenizer.special_ids.values())
        pieces = ((tokenizer.token_bytes(token), token) for token in reversed(range(tokenizer.vocab_size)))
        self._ids = {piece: token for piece, token in pieces if piece and token not in special}

    def cut(self, data: bytes, count: int) -> list[int] | None:
        """`count` tokens that spell these bytes, the first as long as can be; `None` if there are none."""
        if count == 0:
            return None if data else []
        for length in range(len(data) - count + 1, 0, -1):
            token = self._ids.get(data[:length])
            if token is not None and (rest := self.cut(data[length:], count - 1)) is not None:
                return [token, *rest]
        return None


class Answer:
    """One sample of a request, as llama.cpp tells it chunk by chunk.

    Attributes: `ids` of all its tokens; `tokens`: how many there are; `finish`: why it ended, or ""; `full`: the
    context is, and it has to be asked again, from the newer half.
    """

    def __init__(self, generation: Generation, number: int, tokenizer: Tokenizer, cutter: Cutter) -> None:
        request = generation.request
        self.number = number
        self.ids: list[int] = []
        self.tokens = 0
        self.finish: Finish = ""
        self.full = False
        self._generation, self._tokenizer, self._cutter = generation, tokenizer, cutter
        self._matcher: Matcher | None = (
            request.grammar.matcher(continues=request.continues) if request.grammar else None
        )
        self._stream = TextStream(tokenizer, continues=request.continues)
        self._stop = StopStrings(request.settings.stop)
        self._before = 0  # tokens of earlier questions

    def ask_again(self) -> None:
        """What comes now answers a new question."""
        self.full, self._before = False, self.tokens

    def take(self, chunk: Mapping[str, Any]) -> None:
        """Pass on what a chunk adds."""
        told, choice = chunk["__verbose"], chunk["choices"][0]
        ids = [int(token) for token in told["tokens"]]
        predicted = self._before + int(told["tokens_predicted"])
        unseen = predicted - self.tokens - len(ids)
        hidden = self._hidden(choice["text"], ids, unseen) if unseen and ids else []
        self._count(predicted - self.tokens)
        start = len(self.ids)
        text = self._text([*(hidden or []), *ids]) if hidden is not None else self._as_told(choice["text"], ids)
        if choice["finish_reason"] is not None and not self.finish:
            self._end_as_told(choice["finish_reason"])
        self._tell(text, tuple(self.ids[start:]), self._scores(choice))

    def end(self, finish: Finish) -> None:
        """It ends here, whatever llama.cpp would have said."""
        self.finish = finish
        self._tell("")

    def _end_as_told(self, reason: str) -> None:
        request = self._generation.request
        if reason == "length" and request.slides and self.tokens < request.settings.max_tokens:
            self.full = True
        else:
            self.finish = "stop" if reason == "stop" else "length"

    def _hidden(self, text: str, ids: Sequence[int], count: int) -> list[int] | None:
        """The tokens before those told that end in the middle of a character; `None` where they cannot be found."""
        last = b"".join(self._tokenizer.token_bytes(token) for token in ids)
        data = text.encode()
        return self._cutter.cut(data.removesuffix(last), count) if data.endswith(last) else None

    def _text(self, ids: Sequence[int]) -> str:
        """Take tokens in; the text that is certain with them."""
        text = ""
        for token in ids:
            if self.finish:
                break
            if token in self._tokenizer.stop_ids:
                self.finish = "stop"
                break
            self.ids.append(token)
            text += self._stop.push(self._stream.push(token))
            self._follow([token])
            if self._stop.found or (self._matcher is not None and self._matcher.finished):
                self.finish = "stop"
        return text

    def _as_told(self, text: str, ids: Sequence[int]) -> str:
        """Bytes that are no text came with tokens that are not known."""
        self.ids += ids
        assert self._matcher is None, "a grammar allows no bytes that are no text"
        return self._stop.push(self._stream.flush() + text)

    def _follow(self, ids: Sequence[int]) -> None:
        """Hold llama.cpp to the grammar."""
        if self._matcher is not None and self._matcher.take(ids) != len(ids):
            raise _not_followed(self._matcher.grammar)  # it generates anything where it does not understand a grammar

    def _count(self, tokens: int) -> None:
        self.tokens += tokens
        self._generation.usage.generated_tokens += tokens

    def _scores(self, choice: Mapping[str, Any]) -> tuple[TokenScore, ...]:
        asked = self._generation.request.logprobs
        content = (choice.get("logprobs") or {}).get("content") or []
        if asked is None:
            return ()
        return tuple(
            TokenScore(
                entry["id"],
                _logprob(entry),
                tuple((other["id"], _logprob(other)) for other in entry["top_logprobs"][:asked]),
            )
            for entry in content
            if entry["id"] not in self._tokenizer.stop_ids
        )

    def _tell(self, text: str, ids: tuple[int, ...] = (), scores: tuple[TokenScore, ...] = ()) -> None:
        if self.finish:
            text += self._stop.push(self._stream.flush()) + self._stop.flush()
        if text or ids or self.finish:
            self._generation.push(Piece(self.number, text, self.tokens, self.finish, ids, scores))


def _logprob(entry: Mapping[str, Any]) -> float:
    """Minus infinity has no number in JSON."""
    return float("-inf") if entry["logprob"] is None else float(entry["logprob"])
