"""An engine that says what it is told to, for tests of what happens around a model."""

import json
from collections.abc import Callable, Sequence

import torch

from tinyslm.inference.engine import Engine
from tinyslm.inference.generation import Generation, Sink
from tinyslm.inference.request import EngineStats, Piece, Request, check_request
from tinyslm.tokenizer.tokenizer import Tokenizer


def call_text(name: str, arguments: str) -> str:
    """A call as models write it."""
    compact = json.dumps(json.loads(arguments), separators=(",", ":"), ensure_ascii=False)
    return f'<tool_call>\n{{"name":"{name}","arguments":{compact}}}\n</tool_call>'


class ScriptedEngine(Engine):
    """Says each of `texts` once, in order, a few characters at a time; what the grammar forbids cannot be said.

    Attributes: `requests` that came, and `prompts`, their texts. A text may also be a function of the prompt.
    """

    name = "scripted"
    model = torch.nn.Module()

    def __init__(
        self,
        tokenizer: Tokenizer,
        texts: Sequence[str | Callable[[str], str]],
        *,
        context: int = 8192,
        wild: bool = False,
    ) -> None:
        self.tokenizer, self.context = tokenizer, context
        self.requests: list[Request] = []
        self.prompts: list[str] = []
        self._texts = list(texts)
        self._wild = wild

    def submit(self, request: Request, sink: Sink | None = None) -> Generation:
        assert sink is None
        check_request(request, self.tokenizer.vocab_size, self.context)
        self.requests.append(request)
        self.prompts.append(self.tokenizer.decode(request.prompt_ids))
        return Generation(request, self)

    def drive(self, generation: Generation) -> None:
        """Push the whole of the next text."""
        text = self._texts.pop(0)
        text = text if isinstance(text, str) else text(self.prompts[-1])
        ids = self.tokenizer.encode(text)
        if generation.request.grammar is not None and not self._wild:
            matcher = generation.request.grammar.matcher()
            assert matcher.take(ids) == len(ids), f"the grammar forbids {text!r}"
            assert matcher.accepts, f"the grammar wants more than {text!r}"
        longest = generation.request.settings.max_tokens
        finish = "stop" if len(ids) <= longest else "length"
        ids = ids[:longest]
        for start in range(0, len(ids), 7):
            part = ids[start : start + 7]
            generation.push(Piece(0, self.tokenizer.decode(part), start + len(part), "", tuple(part)))
        generation.push(Piece(0, "", len(ids), finish))

    def start(self) -> None: ...

    def close(self) -> None: ...

    def stats(self) -> EngineStats:
        return EngineStats()
