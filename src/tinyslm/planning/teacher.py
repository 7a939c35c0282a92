"""Generate more examples of a task with a larger model behind an endpoint (Self-Instruct, Wang et al., 2023)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_atomic
from tinyslm.data.conversations import Conversation, conversation_of, read_conversations
from tinyslm.data.lint import CHECKS
from tinyslm.data.lint.check import Examples
from tinyslm.evaluation.graders import find_grader
from tinyslm.evaluation.runtimes.endpoint import Endpoint
from tinyslm.inference.settings import SamplingSettings
from tinyslm.training.rollouts import grade_all

SHOWN, SHOWN_MADE = 6, 2
"""Numbers of given and of generated examples to show in a request."""
WRITTEN = 5
"""Number of examples to request at a time."""
ALIKE = 0.7
"""Two prompts with at least this share of words in common, in order, count as the same."""
FRUITLESS = 8
"""Stop after this many consecutive requests without a new example."""
LONGEST_ANSWER = 4_096
FIELDS = ("prompt", "answer")
SCHEMA = {
    "type": "object",
    "properties": {
        "examples": {
            "type": "array",
            "minItems": 1,
            "maxItems": WRITTEN,
            "items": {
                "type": "object",
                "properties": {name: {"type": "string", "minLength": 1} for name in FIELDS},
                "required": list(FIELDS),
                "additionalProperties": False,
            },
        }
    },
    "required": ["examples"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Teacher:
    """A model that writes examples. model: its name at the server; default: the first. grader: see `find_grader`."""

    url: str
    model: str = ""
    grader: str = ""
    temperature: float = 1.0


@dataclass
class Extended:
    """Examples that a teacher wrote, as (prompt, answer), and the number dropped, by reason."""

    made: list[tuple[str, str]] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str) -> None:
        """Count a dropped example."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


def extend_examples(
    paths: Sequence[str | Path],
    out: str | Path,
    teacher: Teacher,
    *,
    count: int,
    fields: Mapping[str, str] | None = None,
    seed: int = 1,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Extended:
    """Generate about `count` examples like those in `paths` with a teacher, and write them to `out` as JSON lines.

    Each row is marked as synthetic, with the teacher's name. Prompts that resemble earlier ones, answers that the
    grader scores below 0.5, and rows in which a check finds an error are dropped. If it is interrupted, or if the
    teacher writes nothing new, the examples so far are written.

    Raises `TinyslmError` for rows that are not single prompts with answers, for an existing `out`, for an endpoint that
    cannot be used, and if there are no new examples.
    """
    given = [_pair(one) for one in read_conversations(paths, fields)]
    if len(given) < 2:
        raise TinyslmError("The teacher needs at least two examples.", "Write some more by hand; thirty are good.")
    if Path(out).exists():
        raise TinyslmError(f"{out} exists already.", "Give another name: nothing is written over.")
    grader = find_grader(teacher.grader) if teacher.grader else None
    endpoint, rng, extended = Endpoint(teacher.url, teacher.model), random.Random(seed), Extended()
    known, fruitless = [_words(prompt) for prompt, _ in given], 0
    try:
        while len(extended.made) < count and fruitless < FRUITLESS:
            before = len(extended.made)
            for prompt, answer in _written(endpoint, teacher, given, extended.made, rng):
                words = _words(prompt)
                if any(_alike(words, one) for one in known):
                    extended.drop("like an earlier one")
                elif grader and grade_all(grader, [({"prompt": prompt, "answer": answer}, answer)])[0].score < 0.5:
                    extended.drop("failed by the grader")
                else:
                    known.append(words)
                    extended.made.append((prompt, answer))
            fruitless = 0 if len(extended.made) > before else fruitless + 1
            progress("writing examples", min(count, len(extended.made)), count)
    finally:
        _without_errors(extended)
        source = {"synthetic": True, "teacher": endpoint.model}
        lines = (
            json.dumps({"prompt": prompt, "completion": answer, **source}) for prompt, answer in extended.made[:count]
        )
        if extended.made:
            write_atomic(Path(out), "".join(f"{line}\n" for line in lines))
    if not extended.made:
        raise TinyslmError(
            f"{endpoint.model} wrote no example that can be used ({_reasons(extended)}).",
            "Use a larger model as teacher.",
        )
    return extended


def _written(
    endpoint: Endpoint,
    teacher: Teacher,
    given: Sequence[tuple[str, str]],
    made: Sequence[tuple[str, str]],
    rng: random.Random,
) -> list[tuple[str, str]]:
    """Request examples once; empty if the reply cannot be parsed."""
    shown = rng.sample(given, min(SHOWN, len(given))) + rng.sample(made, min(SHOWN_MADE, len(made)))
    rng.shuffle(shown)
    lines = "\n".join(json.dumps(dict(zip(FIELDS, one, strict=True)), ensure_ascii=False) for one in shown)
    asked = (
        f"Here are examples of one job, each a JSON object:\n\n{lines}\n\nWrite {WRITTEN} more of the same job. "
        "The prompts should differ from these and from each other in content and in wording, as different people would "
        'write them. Each answer must be right, and in the same form. Reply with JSON: {"examples": [{"prompt": ..., '
        '"answer": ...}, ...]}'
    )
    messages = [{"role": "user", "content": asked}]
    settings = SamplingSettings(max_tokens=LONGEST_ANSWER, temperature=teacher.temperature, seed=rng.getrandbits(31))
    try:
        answer, _ = endpoint.answer(messages, settings, SCHEMA)
    except TinyslmError:  # servers without JSON schemas refuse the request
        answer, _ = endpoint.answer(messages, settings)
    return list(examples_in(answer.text))


def examples_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield the prompts and answers in a reply: JSON objects with both fields, also inside other text or objects."""
    start = text.find("{")
    while start >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        for one in value.get("examples", ()) if isinstance(value.get("examples"), list) else [value]:
            if isinstance(one, dict) and all(isinstance(one.get(name), str) and one[name].strip() for name in FIELDS):
                yield one["prompt"].strip(), one["answer"].strip()
        start = text.find("{", end)


def _pair(conversation: Conversation) -> tuple[str, str]:
    """The prompt and answer of a conversation. Raises `TinyslmError` for several turns."""
    messages = [one for one in conversation.messages if one["role"] != "system"]
    if [one["role"] for one in messages] != ["user", "assistant"]:
        raise TinyslmError(
            f"{conversation.place} has several turns.", "A teacher extends prompts with one answer: leave this row out."
        )
    return messages[0]["content"], messages[1]["content"]


def _words(text: str) -> list[str]:
    return text.casefold().split()


def _alike(one: Sequence[str], other: Sequence[str]) -> bool:
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.real_quick_ratio() >= ALIKE and matcher.quick_ratio() >= ALIKE and matcher.ratio() >= ALIKE


def _without_errors(extended: Extended) -> None:
    """Drop the rows in which a check of `data lint` finds an error."""
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in extended.made]
    examples = Examples([conversation_of(row, str(number)) for number, row in enumerate(rows)])
    wrong: dict[int, str] = {}
    for name in CHECKS:
        check = CHECKS[name]
        for hit in check.find(examples) if check.severity == "error" and rows else ():
            if hit.place.isdigit():
                wrong.setdefault(int(hit.place), check.title)
    for reason in wrong.values():
        extended.drop(reason)
    extended.made[:] = [one for number, one in enumerate(extended.made) if number not in wrong]


def _reasons(extended: Extended) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in extended.dropped.items()) or "no reply could be read"
