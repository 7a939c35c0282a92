"""An engine that generates scripted texts and records its requests."""

import threading
from collections import deque

from tinyslm.inference.engine import Engine
from tinyslm.inference.generation import Generation, Sink
from tinyslm.inference.request import EngineStats, Piece, Request, check_request
from tinyslm.tokenizer.tokenizer import Tokenizer

ENDLESS = "ENDLESS"


class ScriptedEngine(Engine):
    """Attributes: `texts` to say, one for each request; `requests` that came; `cancelled`: how many were ended early.

    A text `ENDLESS` goes on until it is cancelled. `gate`: where cleared, each text waits after its first piece.
    """

    name = "scripted"
    context = 100_000

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.forget()

    def forget(self) -> None:
        self.texts: deque[str] = deque()
        self.requests: list[Request] = []
        self.cancelled = 0
        self.gate = threading.Event()
        self.gate.set()

    def submit(self, request: Request, sink: Sink | None = None) -> Generation:
        check_request(request, self.tokenizer.vocab_size, self.context)
        self.requests.append(request)
        generation = Generation(request, self, sink)
        text = self.texts.popleft() if self.texts else "Nothing to say."
        threading.Thread(target=self._speak, args=(generation, text), daemon=True).start()
        return generation

    def prompt(self, number: int = -1) -> str:
        """The text of a request's prompt."""
        return self.tokenizer.decode(self.requests[number].prompt_ids)

    def drive(self, generation: Generation) -> None:
        pass

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def stats(self) -> EngineStats:
        return EngineStats()

    def _speak(self, generation: Generation, text: str) -> None:
        pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
        number = 0
        while number < len(pieces) or text == ENDLESS:
            if generation.cancelled:
                self.cancelled += 1
                generation.push(Piece(0, "", number, "cancelled"))
                return
            piece = f"word{number} " if text == ENDLESS else pieces[number]
            number += 1
            generation.usage.generated_tokens = number
            generation.push(Piece(0, piece, number, "", (65,)))
            while not (self.gate.wait(0.01) or generation.cancelled):
                pass
            if text == ENDLESS:
                threading.Event().wait(0.01)
        generation.push(Piece(0, "", number, "stop"))
