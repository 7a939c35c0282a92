"""Kinds of task that score the probabilities of texts: pairs, multiple choice, last words, bits per byte."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.protocols import Continuation, ContinuationScore
from tinyslm.evaluation.tasks.task import Kind, Outcome, Row

_LABEL = re.compile(r"^(?:Question|Answer|Text):", re.MULTILINE)


@dataclass(frozen=True)
class Pair:
    """Two sentences, the first of which should be more probable. Equal probabilities count half."""

    id: str
    group: str
    good: str
    bad: str
    chance: float = 0.5

    @property
    def text(self) -> str:
        """See `Example`."""
        return self.good

    def continuations(self) -> Sequence[Continuation]:
        """See `ScoredExample`."""
        return Continuation("", self.good), Continuation("", self.bad)

    def outcome(self, scores: Sequence[ContinuationScore]) -> Outcome:
        """See `ScoredExample`."""
        good, bad = (score.logprob for score in scores)
        return {"accuracy": 0.5 if good == bad else float(good > bad)}

    def answer(self, scores: Sequence[ContinuationScore], _metric: str) -> str:
        """See `ScoredExample`."""
        return _preferred([score.logprob for score in scores], [self.good, self.bad])


@dataclass(frozen=True)
class Choice:
    """A question with several answers, each scored after its context.

    sizes: the bytes of each answer, without surrounding white space. right: the index of the right answer.
    """

    id: str
    group: str
    options: tuple[Continuation, ...]
    sizes: tuple[int, ...]
    right: int

    @property
    def chance(self) -> float:
        """See `Example`."""
        return 1 / len(self.options)

    @property
    def text(self) -> str:
        """See `Example`."""
        option = self.options[self.right]
        return without_labels(option.context + option.text)

    def continuations(self) -> Sequence[Continuation]:
        """See `ScoredExample`."""
        return self.options

    def outcome(self, scores: Sequence[ContinuationScore]) -> Outcome:
        """See `ScoredExample`: the accuracy by log-probability per byte, in total ("raw"), and per token."""
        return {metric: _share(some, self.right) for metric, some in self._by_metric(scores).items()}

    def answer(self, scores: Sequence[ContinuationScore], metric: str) -> str:
        """See `ScoredExample`."""
        return _preferred(self._by_metric(scores)[metric], [option.text.strip() for option in self.options])

    def _by_metric(self, scores: Sequence[ContinuationScore]) -> dict[str, list[float]]:
        """For each metric, the scores that rank the options."""
        sums = [score.logprob for score in scores]
        return {
            "per_byte": [one / size for one, size in zip(sums, self.sizes, strict=True)],
            "raw": sums,
            "per_token": [one / max(1, score.tokens) for one, score in zip(sums, scores, strict=True)],
        }


@dataclass(frozen=True)
class LastWord:
    """A passage whose last word the model predicts.

    Metrics: "accuracy": greedy decoding would write the word; "nats": the negative log-probability of the word.
    """

    id: str
    group: str
    context: str
    word: str
    chance: float = 0.0

    @property
    def text(self) -> str:
        """See `Example`."""
        return self.context + self.word

    def continuations(self) -> Sequence[Continuation]:
        """See `ScoredExample`."""
        return (Continuation(self.context, self.word),)

    def outcome(self, scores: Sequence[ContinuationScore]) -> Outcome:
        """See `ScoredExample`."""
        (score,) = scores
        return {"accuracy": float(score.greedy), "nats": -score.logprob}

    def answer(self, scores: Sequence[ContinuationScore], _metric: str) -> str:
        """See `ScoredExample`."""
        first = "the most probable word" if scores[0].greedy else "not the most probable word"
        return f"{self.word.strip()}: {first}, probability {math.exp(scores[0].logprob):.2%}"


@dataclass(frozen=True)
class Text:
    """A text, scored in bits per byte."""

    id: str
    group: str
    text: str
    chance: float = 0.0

    def continuations(self) -> Sequence[Continuation]:
        """See `ScoredExample`."""
        return (Continuation("", self.text),)

    def outcome(self, scores: Sequence[ContinuationScore]) -> Outcome:
        """See `ScoredExample`."""
        return {"bits": -scores[0].logprob / math.log(2), "bytes": float(len(self.text.encode("utf-8", "replace")))}

    def answer(self, scores: Sequence[ContinuationScore], _metric: str) -> str:
        """See `ScoredExample`."""
        found = self.outcome(scores)
        return f"{found['bits'] / found['bytes']:.3f} bits per byte"


def read_pair(row: Row, place: str, options: Mapping[str, Any]) -> Pair | None:
    """Read a row with the fields "good" and "bad", and optionally "group". Skips rows with identical sentences."""
    good, bad = (text_field(row, options.get(name, name), place) for name in ("good", "bad"))
    return None if good == bad else Pair(row_id(row, place), str(row.get("group", "")), good, bad)


def read_choice(row: Row, place: str, options: Mapping[str, Any]) -> Choice:
    """Read a row with "prompt", "choices" and "answer": the index of the right choice, from 0, or its text.

    The option "prompt" is a template with {fields}; the options "choices" and "answer" name other fields. Each choice
    follows the prompt after a space. Instead of these fields, a row may have "options": pairs of a context and a text
    to score after it.
    """
    if "options" in row:
        given = row["options"]
        if not isinstance(given, list) or not all(isinstance(one, list | tuple) and len(one) == 2 for one in given):
            raise mistake(place, 'its "options" are not pairs of a context and a text')
        pairs = [(str(context), str(text)) for context, text in given]
    else:
        context = fill(options.get("prompt", "{prompt}"), row, place)
        choices = texts_field(row, options.get("choices", "choices"), place)
        pairs = [(context, text if not context or context[-1:].isspace() else f" {text}") for text in choices]
    if len(pairs) < 2:
        raise mistake(place, f"it has {len(pairs)} choices")
    if empty := [number for number, (_, text) in enumerate(pairs) if not text.strip()]:
        raise mistake(place, f"its choice {empty[0]} is empty")
    right = _right_choice(row.get(options.get("answer", "answer")), [text.strip() for _, text in pairs], place)
    sizes = tuple(len(text.strip().encode("utf-8", "replace")) for _, text in pairs)
    made = tuple(Continuation(context, text) for context, text in pairs)
    return Choice(row_id(row, place), str(row.get("group", "")), made, sizes, right)


def read_last_word(row: Row, place: str, options: Mapping[str, Any]) -> LastWord:
    """Read a row with a "text" of several words."""
    text = text_field(row, options.get("text", "text"), place).rstrip()
    context, space, word = text.rpartition(" ")
    if not context.strip() or not word:
        raise mistake(place, "its text is a single word")
    return LastWord(row_id(row, place), str(row.get("group", "")), context, space + word)


def read_text(row: Row, place: str, options: Mapping[str, Any]) -> Text | None:
    """Read a row with a "text". Skips empty texts."""
    text = text_field(row, options.get("text", "text"), place, empty=True)
    return Text(row_id(row, place), str(row.get("group", "")), text) if text else None


def fill(template: str, row: Row, place: str) -> str:
    """Replace each `{field}` in a template with the row's field. Supports no other syntax of Python's `str.format`."""
    parts, rest = [], template
    while (start := rest.find("{")) >= 0 and (end := rest.find("}", start)) > 0:
        name = rest[start + 1 : end]
        if name not in row:
            raise mistake(place, f'it has no field "{name}"')
        value = row[name]
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise mistake(place, f'its field "{name}" is not a text')
        parts += [rest[:start], str(value)]
        rest = rest[end + 1 :]
    return "".join(parts) + rest


def without_labels(prompt: str) -> str:
    """A prompt without "Question:" and "Answer:", which belong to the task and not to the item."""
    return _LABEL.sub("", prompt)


def text_field(row: Row, name: str, place: str, *, empty: bool = False) -> str:
    """A field that holds a string. Raises `TinyslmError` if it is missing, or empty without `empty=True`."""
    value = row.get(name)
    if not isinstance(value, str):
        raise mistake(place, f'it has no field "{name}"' if value is None else f'its field "{name}" is not a text')
    if not value.strip() and not empty:
        raise mistake(place, f'its field "{name}" is empty')
    return value


def texts_field(row: Row, name: str, place: str) -> list[str]:
    """A field that holds a list of strings. Raises `TinyslmError` if it does not."""
    value = row.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise mistake(place, f'its field "{name}" is not a list of texts')
    return value


def row_id(row: Row, place: str) -> str:
    """The row's own id, or its location."""
    return str(row.get("id", place))


def mistake(place: str, what: str) -> TinyslmError:
    """The error for a row that cannot be used."""
    return TinyslmError(
        f"{place} cannot be used: {what}.", "Correct or remove it, or name its fields in the task's TOML file."
    )


def _right_choice(answer: Any, choices: Sequence[str], place: str) -> int:
    """The index of the right choice."""
    if isinstance(answer, str) and answer.strip() in choices:
        return choices.index(answer.strip())
    if isinstance(answer, str) and not answer.isdecimal():
        raise mistake(place, f"its answer {answer!r:.60} is not one of its choices")
    if isinstance(answer, bool) or not isinstance(answer, int | str):
        raise mistake(place, f"its answer {answer!r:.60} is not the number of a choice")
    if not 0 <= int(answer) < len(choices):
        raise mistake(place, f"its answer is {answer}, but its choices are numbered from 0 to {len(choices) - 1}")
    return int(answer)


def _preferred(scores: Sequence[float], texts: Sequence[str]) -> str:
    """The text with the highest score; all texts that tie for it."""
    best = max(scores)
    return " = ".join(text for score, text in zip(scores, texts, strict=True) if score == best)


def _share(scores: Sequence[float], right: int) -> float:
    """1 if only the right choice has the highest score, 1 / n if n choices tie for it, otherwise 0."""
    best = max(scores)
    return (scores[right] == best) / sum(score == best for score in scores)


PAIRS = Kind("pairs", read_pair, generates=False, metrics=("accuracy",))
CHOICE = Kind("choice", read_choice, generates=False, metrics=("per_byte", "raw", "per_token"))
LAST_WORD = Kind("last_word", read_last_word, generates=False, metrics=("accuracy", "nats"))
BITS_PER_BYTE = Kind("bits_per_byte", read_text, generates=False, metrics=("bits_per_byte",), ratio=("bits", "bytes"))
