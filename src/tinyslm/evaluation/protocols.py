"""What evaluation needs from a runtime: log-probabilities of tokens, and answers to requests.

Shape legend: p positions.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.request import Completion
from tinyslm.inference.settings import SamplingSettings

Array = NDArray[Any]

Message = Mapping[str, Any]
"""With a "role" and a "content", as chat templates take it."""

Prompt = Sequence[int] | Sequence[Message]
"""Token ids to continue exactly, or a conversation to answer."""


@dataclass(frozen=True)
class Continuation:
    """A text to score given `context`, which may be empty."""

    context: str
    text: str


@dataclass(frozen=True)
class ContinuationScore:
    """The log-probability of a continuation, in nats.

    tokens: how many of its tokens were scored. greedy: whether each of them was the most probable one. cut: how many
    tokens of the context were dropped on the left because they did not fit.
    """

    logprob: float
    tokens: int
    greedy: bool
    cut: int = 0


class Scorer(Protocol):
    """A model as a source of probabilities.

    one_pass: whether all positions of a text are scored in one pass of the model; else each takes a request of its own.
    """

    one_pass: bool

    def encode(self, text: str) -> list[int]:
        """Ids of a text by the program's own tokenizer: special tokens are read as text, and none is added."""

    def encode_chat(self, messages: Sequence[Message]) -> list[int] | None:
        """Ids of a conversation by the program's own reading of the chat template, with the generation prompt.

        `None` where the program does not read templates, or the model has none.
        """

    def logprobs(self, ids: Sequence[int], positions: Sequence[int]) -> Array:
        """Natural logarithms of the probability of every token after `ids[: position + 1]`, fp32 `[p, vocab_size]`."""


class Generator(Protocol):
    """A model as a source of text."""

    def generate(self, prompt: Prompt, settings: SamplingSettings) -> Completion:
        """One answer to a prompt. Its ids end before an end token of the model.

        Raises `TinyslmError` for settings that the program does not have, and for a conversation without a template.
        """


class Runtime(Scorer, Generator, Protocol):
    """A program that runs a model, in this process."""


def prompt_ids(scorer: Scorer, prompt: Prompt) -> list[int]:
    """The ids of a prompt. Raises `TinyslmError` for a conversation where there is no chat template."""
    ids = [token for token in prompt if isinstance(token, int)]
    if len(ids) == len(prompt):
        return ids
    found = scorer.encode_chat([message for message in prompt if isinstance(message, Mapping)])
    if found is None:
        raise TinyslmError("The model has no chat template.", "Give token ids to continue instead of a conversation.")
    return found


def check_greedy(settings: SamplingSettings, program: str) -> None:
    """Raise `TinyslmError` for sampling settings that are not plain greedy decoding."""
    if not settings.greedy or settings.stop or settings.repetition_penalty != 1 or settings.frequency_penalty:
        raise TinyslmError(
            f"{program} supports only greedy decoding here.",
            "Set the temperature to 0, without stop texts and penalties.",
        )


def ended_by(tokens: Sequence[int], stops: Set[int], decode: Callable[[list[int]], str]) -> Completion:
    """Generated tokens as a completion; if the last token is among `stops`, it is removed and ends the answer."""
    ended = bool(tokens) and tokens[-1] in stops
    ids = list(tokens[:-1] if ended else tokens)
    return Completion(decode(ids), "stop" if ended else "length", len(tokens), tuple(ids))


def greedy(generator: Generator, ids: Sequence[int], count: int) -> list[int]:
    """At most `count` most probable tokens after `ids`; fewer where the model ends the text."""
    return list(generator.generate(ids, SamplingSettings(max_tokens=count, temperature=0.0)).ids)
