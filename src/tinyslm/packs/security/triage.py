"""Log lines and alerts to a severity, the next step of a playbook, and the entities that they name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.strict_json import JsonError, parse_json
from tinyslm.evaluation.graders import Example, Grade, first_json
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.packs.pack import Row, Skill, Split
from tinyslm.packs.security.behaviours import PLAYBOOK, draw

ASKED = "Triage as JSON:\n"
KINDS = ("users", "hosts", "ips", "domains")
_NAMES = {"type": "array", "items": {"type": "string", "pattern": r"^[^\s\"\\]{1,120}$"}, "minItems": 1, "maxItems": 20}
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "severity": {"enum": list(dict.fromkeys(severity for severity, _ in PLAYBOOK.values()))},
        "next_step": {"enum": [step for _, step in PLAYBOOK.values()]},
        "entities": {"type": "object", "properties": dict.fromkeys(KINDS, _NAMES), "additionalProperties": False},
    },
    "required": ["severity", "next_step", "entities"],
    "additionalProperties": False,
}
"""What answers look like."""
_FRAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("{}", "{}", "pls triage: {}", "alert\n{}", "{}\nwhat now?", "Got this: {}", "{} - anything to do?"),
    "test": ("{}", "need a verdict on {}", "{}\nhow bad is it", "ticket says: {}"),
}


def make(random: Random, split: Split) -> Row:
    """A sighting of a behaviour that the playbook covers, and its triage."""
    behaviour, seen = draw(random, split, cases=True)
    severity, step = PLAYBOOK[behaviour.case]
    return _row(random.choice(_FRAMES[split]).format(seen.text), severity, step, seen.entities)


def grade(example: Example, answer: str) -> Grade:
    """The mean of three parts: "severity", "next_step", and "entities", which must be exactly those of the "answer".

    The order and the case of entities do not count. The part "all" is 1 if all three are right.
    """
    wanted = example.get("answer")
    if isinstance(wanted, str):
        wanted = json.loads(wanted)
    if not isinstance(wanted, Mapping) or not isinstance(wanted.get("entities"), Mapping):
        raise TinyslmError("An example has no answer with entities.", "Correct the example.")
    try:
        said = parse_json(first_json(answer).encode("utf-8", "replace"))
    except JsonError as error:
        return Grade(0.0, {"valid": 0.0}, f"not JSON: {error}")
    if not isinstance(said, dict):
        return Grade(0.0, {"valid": 0.0}, "no JSON object")
    parts = {name: float(said.get(name) == wanted[name]) for name in ("severity", "next_step")}
    parts["entities"] = float(_plain(said.get("entities")) == _plain(wanted["entities"]))
    return Grade(sum(parts.values()) / 3, {"valid": 1.0, **parts, "all": float(all(parts.values()))})


def _plain(entities: Any) -> Any:
    if not isinstance(entities, Mapping):
        return None
    return {
        (kind, str(name).casefold())
        for kind, names in entities.items()
        for name in (names if isinstance(names, list) else [names])
    }


def compact(value: Any) -> str:
    """JSON without spaces, as constrained decoding writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _row(asked: str, severity: str, step: str, entities: Mapping[str, Any]) -> Row:
    kept = {kind: entities[kind] for kind in KINDS if kind in entities}
    answer = compact({"severity": severity, "next_step": step, "entities": kept})
    messages = [{"role": "user", "content": ASKED + asked}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "answer": answer}


def convert(row: Mapping[str, Any]) -> Row | None:
    """Reads {"skill": "triage", "text", "answer": {"severity", "next_step", "entities"}}."""
    answer = row.get("answer")
    if row.get("skill") != "triage" or "text" not in row or not isinstance(answer, Mapping):
        return None
    return _row(str(row["text"]), answer["severity"], answer["next_step"], answer["entities"])


TRIAGE = Skill(
    "triage",
    "log lines and alerts to severity, next step and entities as JSON",
    make,
    grade,
    convert,
    max_tokens=200,
    constraint=lambda _: OutputConstraint("schema", SCHEMA),
)
