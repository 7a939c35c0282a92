"""Log lines and alerts to ATT&CK techniques, and questions about techniques."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.graders import Example, Grade, references
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.packs.pack import Row, Skill, Split
from tinyslm.packs.security.attack import ID, NONE, label, parent, techniques
from tinyslm.packs.security.behaviours import draw

ASKED = "ATT&CK technique, or none:\n"
_FRAMES: Mapping[Split, Sequence[str]] = {
    "train": (
        "{}",
        "{}",
        "what is this? {}",
        "{}\nid?",
        "need the technique: {}",
        "{} ... which one",
        "please tag\n{}",
    ),
    "test": ("{}", "how would you map this? {}", "{}\nwhich number do I put", "for the ticket: {}"),
}
_FACTS: Mapping[Split, Sequence[tuple[str, str]]] = {
    "train": (("Which ATT&CK technique is {name}?", "id"), ("What is {id} in ATT&CK?", "id"),
              ("Which tactics does {id} {name} serve?", "tactic")),
    "test": (("Give the id of {name}.", "id"), ("Tactics of {id} {name}?", "tactic")),
}  # fmt: skip


def make(random: Random, split: Split) -> Row:
    """A sighting of a behaviour and its technique; one of eight rows asks about a technique of the matrix."""
    if random.random() < 0.125:
        chosen = random.choice(list(techniques().values()))
        template, kind = random.choice(_FACTS[split])
        asked = template.format(id=chosen.id, name=chosen.name)
        same = [one.id for one in techniques().values() if one.name == chosen.name]
        if kind == "tactic":
            return _row(asked, f"Tactic: {', '.join(chosen.tactics)}.", [], tactics=list(chosen.tactics))
        return _row(asked, chosen.text, same if "{name}" in template else [chosen.id], name=chosen.name)
    behaviour, seen = draw(random, split)
    asked = ASKED + random.choice(_FRAMES[split]).format(seen.text)
    return _row(asked, label(behaviour.technique), [behaviour.technique])


def grade(example: Example, answer: str) -> Grade:
    """The first id in the answer is one of the example's "answer": 1; it is the parent of one, or the other way: 0.5.

    "none" is an id as well. An example may have a "name", which the answer must have beside the id, and "tactics" in
    place of ids, scored by F1. The part "exists" says whether the id is in the matrix.
    """
    if example.get("tactics"):
        return _grade_tactics(set(example["tactics"]), answer)
    wanted = references(example)
    unknown = [one for one in wanted if one != NONE and one not in techniques()]
    if unknown or not wanted:
        raise TinyslmError(f"An example has the technique {unknown}, which ATT&CK does not have.", "Correct it.")
    found = ID.search(answer)
    if found is None:
        said_none = bool(re.search(r"\bnone\b", answer.lower()))
        return Grade(float(said_none and NONE in wanted), {"exists": float(said_none)}, "" if said_none else "no id")
    said = found[0]
    parts = {"exists": float(said in techniques())}
    name = str(example.get("name", ""))
    if said in wanted and name.casefold() in answer.casefold():
        return Grade(1.0, parts)
    near = said in map(parent, wanted) or parent(said) in wanted or said in wanted
    return Grade(0.5 if near and parts["exists"] else 0.0, parts, said)


def _grade_tactics(wanted: set[str], answer: str) -> Grade:
    known = {tactic for one in techniques().values() for tactic in one.tactics}
    said = {tactic for tactic in known if re.search(rf"(?<![\w-]){tactic}(?![\w-])", answer.lower())}
    return Grade(2 * len(wanted & said) / (len(wanted) + len(said)), why=", ".join(sorted(said)))


def constraint(row: Mapping[str, Any]) -> OutputConstraint:
    """Only techniques that exist, or tactics, or (for questions about a technique) a few sentences."""
    if row.get("tactics"):
        return OutputConstraint("regex", r"Tactic: [a-z, -]{3,160}\.( Platforms: [^\n]{2,160}\.)?")
    if row.get("sentences"):
        return OutputConstraint("regex", r"[^\n]{1,600}")
    return OutputConstraint("choice", [NONE, *(one.text for one in techniques().values())])


def _row(asked: str, answer: str, ids: Sequence[str], **fields: Any) -> Row:
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "answer": list(ids), **fields}


def convert(row: Mapping[str, Any]) -> Row | None:
    """Reads {"skill": "technique", "text", "answer": [ids]}, and published questions about ATT&CK.

    Those have "instruction", "input" and "output": an id with its name, "ID is NAME. ...", or "Tactic: ...".
    """
    if row.get("skill") == "technique" and "text" in row:
        ids = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
        return _row(ASKED + str(row["text"]), label(str(ids[0])), ids)
    asked, given, answer = (row.get(name) for name in ("instruction", "input", "output"))
    if not (isinstance(asked, str) and isinstance(given, str) and isinstance(answer, str)):
        return None
    known = {tactic for one in techniques().values() for tactic in one.tactics}
    if answer.startswith("Tactic: "):
        tactics = [one for one in re.split(r", |\.", answer[8:].split(". ")[0]) if one in known]
        return _row(asked, answer, [], tactics=tactics) if tactics else None
    found = ID.match(answer)
    if found is None or found[0] not in techniques():
        return None
    if answer.startswith(f"{found[0]} is "):
        return _row(asked, answer, [found[0]], name=techniques()[found[0]].name, sentences=True)
    return _row(ASKED + given.strip(), answer, [found[0]]) if given.strip() else None


TECHNIQUE = Skill(
    "technique",
    "log lines and alerts to ATT&CK techniques",
    make,
    grade,
    convert,
    max_tokens=48,
    constraint=constraint,
)
