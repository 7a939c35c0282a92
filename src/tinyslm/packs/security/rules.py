"""Descriptions to Sigma rules that run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.worker import Limits, Worker, WorkerError
from tinyslm.evaluation.graders import Example, Grade, field_f1
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.packs.pack import Row, Skill, Split
from tinyslm.packs.security.events import SOURCES, columns, event_of, logsource_yaml
from tinyslm.packs.security.rule_parts import EXCLUSIONS, FRAMES, ORDINARY, PARTS, SOURCE_WORDS, Part

ASKED = "Write a Sigma rule:\n"
Choice = tuple[Part, tuple[str, ...]]
"""A part of a rule with its values."""
Slots = dict[str, str]
"""What an event is made of."""

GRAMMAR = r"""
start: logsource "detection:\n" block~1..6 "    condition: " CONDITION "\n"?
block: "    " WORD ":\n" item~1..8
item: "        " FIELD ("|" MODIFIER)~0..2 ":" (" " VALUE "\n" | "\n" ("            - " VALUE "\n")~1..20)
WORD: /[a-z][a-z0-9_]{0,30}/
FIELD: /[A-Za-z][A-Za-z0-9_.-]{0,40}/
MODIFIER: "contains" | "all" | "startswith" | "endswith" | "cidr" | "re" | "cased" | "windash" | "gte" | "lte"
VALUE: /'([^'\n]|''){1,120}'|[A-Za-z0-9][A-Za-z0-9_.\/-]{0,80}/
CONDITION: /[a-z1][a-z0-9_*() ]{0,80}/
logsource: """
"""Lark text: what answers may look like; the log sources follow."""
_ANY_LOGSOURCE = r'"logsource:\n" ("    " ("category" | "product" | "service") ": " WORD "\n")~1..3'

_WORDS_OF_YAML = ("null", "true", "false", "yes", "no", "on", "off")
_worker = Worker("tinyslm.packs.security.running:answer", Limits(cpu_seconds=10, memory=1 << 30, wait_seconds=120))


def make(random: Random, split: Split) -> Row:
    """A description, the rule, and events on which it must fire and stay silent, near misses among them."""
    while True:
        source = random.choice(list(SOURCES))
        wanted, excluded = _choose(random, source, split)
        events = _events(random, source, wanted, excluded)
        fires = {_short(source, slots): _fires(source, slots, wanted, excluded) for slots in events}
        hostile, benign = ([text for text, fired in fires.items() if fired == value] for value in (True, False))
        if hostile and len(benign) > len(wanted):
            break
    asked = _words(random, source, wanted, excluded, split)
    return _row(asked, source, hostile, benign, rule_text(source, wanted, excluded))


def rule_text(source: str, wanted: Sequence[Choice], excluded: Sequence[Choice] = ()) -> str:
    """The logsource and detection of a rule."""
    lines = ["detection:"]
    for name, choices in (("selection", wanted), ("filter", excluded)):
        lines += [f"    {name}:"] if choices else []
        for part, values in choices:
            key = f"        {part.field}{'|' if part.modifier else ''}{part.modifier}:"
            texts = [_scalar(_around(part, value)) for value in values]
            lines += [f"{key} {texts[0]}"] if len(texts) == 1 else [key, *(f"            - {text}" for text in texts)]
    return (
        f"{logsource_yaml(source)}"
        + "\n".join(lines)
        + f"\n    condition: selection{' and not filter' * bool(excluded)}"
    )


def _scalar(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z0-9][\w./-]*", text) and text.lower() not in _WORDS_OF_YAML
    return text if plain else "'" + text.replace("'", "''") + "'"


def _around(part: Part, value: str) -> str:
    """A value as a rule has it; in messages of sshd, with what delimits it."""
    return f"{part.before[0]}{value}{part.after[0]}" if part.slot in ("user", "ip") else value


def _choose(random: Random, source: str, split: Split) -> tuple[list[Choice], list[Choice]]:
    """One to three parts of a rule on different slots, and perhaps one for what is left out."""
    parts = PARTS[source]
    count = random.choices((1, 2, 3), (3, 5, 2))[0]
    taken: dict[str, Part] = {}
    for part in random.sample(parts, len(parts)):
        if len(taken) < count and not (part.excludes and not taken):
            keys = {f"{one.field}|{one.modifier}" for one in taken.values()}
            if f"{part.field}|{part.modifier}" not in keys:
                taken.setdefault(part.about, part)
    wanted = [(part, _values(random, part, split)) for part in sorted(taken.values(), key=parts.index)]
    left = [part for part in parts if part.excludes and part.about not in taken]
    if not left or random.random() < 0.6:
        return wanted, []
    part = random.choice(left)
    return wanted, [(part, _values(random, part, split)[:1])]


def _values(random: Random, part: Part, split: Split) -> tuple[str, ...]:
    least = 2 if "all" in part.modifier else 1
    return tuple(random.sample(part.values[split], random.randint(least, max(least, part.most))))


def _events(random: Random, source: str, wanted: Sequence[Choice], excluded: Sequence[Choice]) -> list[Slots]:
    """Events that have what the parts want, near misses that lack one of them, and ordinary ones."""

    def made(lacks: int | None, which: int, left_out: bool = False) -> Slots:
        slots = {slot: random.choice(values) for slot, values in ORDINARY[source].items()}
        for number, (part, values) in enumerate(wanted):
            if number == lacks and "all" not in part.modifier:
                others = [one for one in (*part.values["train"], *part.values["test"]) if one not in values]
                slots[part.about] = _put(random, part, [random.choice(others)])
            elif number == lacks:
                slots[part.about] = _put(random, part, values[:-1])
            else:
                slots[part.about] = _put(
                    random, part, values if "all" in part.modifier else [values[which % len(values)]]
                )
        for part, values in excluded if left_out else ():
            slots[part.about] = _put(random, part, values)
        return slots

    most = max(len(values) for _, values in wanted)
    return [
        *(made(None, which) for which in range(most)),
        *(made(number, number) for number in range(len(wanted))),
        *([made(None, 0, left_out=True)] if excluded else []),
        *({slot: random.choice(values) for slot, values in ORDINARY[source].items()} for _ in range(2)),
    ]


def _put(random: Random, part: Part, values: Sequence[str]) -> str:
    """What a slot holds that has these values."""
    if part.modifier == "cidr":
        return str(random.choice(list(ip_network(values[0]).hosts())[:100]))
    if part.slot:
        return values[0]
    return random.choice(part.before) + " ".join(values) + random.choice(part.after)


def _short(source: str, slots: Slots) -> str:
    """The event of the slots in the short notation."""
    if source == "sshd":
        return f"{slots['verb']} for {slots['user']} from {slots['ip']} port 50{len(slots['user']):02} ssh2"
    return " | ".join(slots[field] for field in SOURCES[source].fields)


def _fires(source: str, slots: Slots, wanted: Sequence[Choice], excluded: Sequence[Choice]) -> bool:
    """Whether a rule of these parts fires: what pysigma and SQLite say, too, as the tests check."""
    event = event_of(source, _short(source, slots))
    return _has(event, wanted) and not (excluded and _has(event, excluded))


def _has(event: Mapping[str, str], choices: Sequence[Choice]) -> bool:
    for part, values in choices:
        held = event.get(part.field, "")
        tests = [_test(part.modifier, held.casefold(), _around(part, value).casefold()) for value in values]
        if not (all(tests) if "all" in part.modifier else any(tests)):
            return False
    return True


def _test(modifier: str, held: str, value: str) -> bool:
    if modifier == "cidr":
        return ip_address(held) in ip_network(value)
    kind = modifier.partition("|")[0]
    return {"": held == value, "contains": value in held, "startswith": held.startswith(value),
            "endswith": held.endswith(value)}[kind]  # fmt: skip


def _words(random: Random, source: str, wanted: Sequence[Choice], excluded: Sequence[Choice], split: Split) -> str:
    """The description of a rule."""

    def told(choices: Sequence[Choice]) -> str:
        quote = random.choice(("", "", '"', "'"))
        said = []
        for part, values in choices:
            names = [f"{quote}{value.lstrip(chr(92))}{quote}" for value in values]
            joined = (" and " if "all" in part.modifier else " or ").join(names)
            said.append(random.choice(part.words[split]).format(v=joined))
        return random.choice((" and ", ", ", ", and ")).join(said)

    body = told(wanted)
    if excluded:
        body += ", " + random.choice(EXCLUSIONS[split]).format(body=told(excluded))
    words = random.choice(SOURCE_WORDS[source][split])
    return random.choice(FRAMES[split]).format(source=words, body=body)


def _row(asked: str, source: str, hostile: Sequence[str], benign: Sequence[str], rule: str) -> Row:
    return {
        "messages": [{"role": "user", "content": ASKED + asked}, {"role": "assistant", "content": rule}],
        "answer": rule,
        "source": source,
        "hostile": list(hostile),
        "benign": list(benign),
    }


def run_rule(text: str, source: str, events: Sequence[str]) -> Mapping[str, Any]:
    """What `running.answer` says of a rule and events in the short notation. Raises `TinyslmError` without pysigma."""
    from importlib.util import find_spec

    if find_spec("sigma") is None:
        raise require_extra("packs", "Running Sigma rules")
    try:
        told = [columns(source, event_of(source, event)) for event in events]
    except (KeyError, ValueError) as error:
        raise TinyslmError(f"An example has events that cannot be read: {error}.", "Correct the example.") from None
    try:
        return _worker.ask({"rule": text, "events": told})
    except WorkerError as error:
        return {"why": f"the rule could not be run: {error.kind}"}


def plain_rule(answer: str) -> str:
    """The rule of an answer, which may be in a code fence."""
    fenced = re.search(r"```\w*\n(.*?)(?:```|\Z)", answer, re.DOTALL)
    return (fenced[1] if fenced else answer).strip("\n")


def grade(example: Example, answer: str) -> Grade:
    """The rule fires on the "hostile" events of the example and stays silent on the "benign" ones, or the score is 0.

    Parts: "parses"; "logsource": it is for the "source"; "hits" and "quiet": shares of events. An example without
    events is scored by F1 of the rule's parts, compared with the "answer".
    """
    rule, source = plain_rule(answer), str(example.get("source") or "")
    hostile, benign = (list(example.get(name) or ()) for name in ("hostile", "benign"))
    if (source and source not in SOURCES) or (hostile and not source):
        raise TinyslmError(f'An example has the source "{source}".', f"Sources: {', '.join(SOURCES)}.")
    found = run_rule(rule, source, [*hostile, *benign])
    if "why" in found:
        return Grade(0.0, {"parses": 0.0}, str(found["why"]))
    if not hostile:
        return Grade(_likeness(str(example.get("answer", "")), rule), {"parses": 1.0})
    stated, wanted = found["logsource"], SOURCES[source].logsource
    fits = bool(stated) and all(wanted.get(key) == value for key, value in stated.items())
    fired = found["fired"]
    hits = sum(fired[: len(hostile)]) / len(hostile)
    quiet = 1 - sum(fired[len(hostile) :]) / len(benign) if benign else 1.0
    why = "" if fits else "another logsource"
    right = float(fits and hits == quiet == 1)
    return Grade(right, {"parses": 1.0, "logsource": float(fits), "hits": hits, "quiet": quiet}, why)


def _likeness(wanted: str, rule: str) -> float:
    import yaml

    return field_f1(*(yaml.safe_load(text)["detection"] for text in (wanted, rule)))


def convert(row: Mapping[str, Any]) -> Row | None:
    """Reads {"skill": "rule", "text", "source", "hostile", "benign", "rule"}, and published rules with descriptions:
    {"input": a description, "output": YAML with logsource and detection}.
    """
    if row.get("skill") == "rule" and "text" in row:
        detection = "\n".join(f"    {line}" for line in str(row["rule"]).splitlines())
        rule = f"{logsource_yaml(str(row['source']))}detection:\n{detection}"
        return _row(str(row["text"]), str(row["source"]), row["hostile"], row["benign"], rule)
    asked, published = row.get("input"), row.get("output")
    if not (isinstance(asked, str) and isinstance(published, str) and asked.strip() and "detection:" in published):
        return None
    if "why" in run_rule(published, "", ()):
        return None
    return _row(asked.strip(), "", (), (), published.strip())


def constraint(row: Mapping[str, Any]) -> OutputConstraint:
    """A rule for one of the log sources, or for any if the row does not come from them."""
    known = " | ".join(json.dumps(logsource_yaml(source)) for source in SOURCES)
    return OutputConstraint("grammar", GRAMMAR + (known if row.get("source") else _ANY_LOGSOURCE))


RULE = Skill(
    "rule",
    "descriptions to Sigma rules, which run on events",
    make,
    grade,
    convert,
    max_tokens=320,
    constraint=constraint,
)
