"""Generated grammars, most of them odd, as a server may get them: Lark grammars, regular expressions, JSON schemas.

Some are chains of thousands of rules, some are damaged.
"""

import json
import random
import string
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyslm.inference.grammar import Grammar, unpacked

STEPS = 40  # tokens that each grammar is followed for


def follow(grammar: Grammar, chance: random.Random) -> None:
    """Write a text at random."""
    matcher = grammar.matcher()
    row = np.zeros(-(-grammar.vocab_size // 32), np.uint32)
    for left in range(STEPS, 0, -1):
        matcher.allow(row)
        allowed = np.flatnonzero(unpacked(row, grammar.vocab_size))
        if not len(allowed):
            return
        matcher.take([matcher.settle(int(chance.choice(allowed)), left)])
        if matcher.finished:
            return


def generated(seed: int) -> tuple[str, Any]:
    """What this seed makes: "lark", "regex" or "json_schema", and the grammar."""
    chance = random.Random(seed)
    kind = chance.choice(("lark", "regex", "json_schema"))
    if kind == "json_schema":
        return kind, schema(chance) if chance.random() < 0.9 else chained_schema(chance)
    if kind == "regex":
        text = regex(chance, chance.randint(1, 6))
    else:
        text = lark(chance) if chance.random() < 0.9 else chained_rules(chance)
    return kind, damaged(text, chance) if chance.random() < 0.15 else text


def damaged(text: str, chance: random.Random) -> str:
    """The text with some characters left out, doubled or changed."""
    characters = list(text)
    for _ in range(chance.randint(1, 5)):
        place = chance.randrange(len(characters) + 1)
        new = chance.choice(["", chance.choice('(){}[]|*+?:"/\\\n~&<>%$#é\x00'), text[place : place + 20] * 2])
        characters[place : place + chance.randint(0, 2)] = list(new)
    return "".join(characters)


# Lark grammars


def lark(chance: random.Random) -> str:
    """A grammar of some rules and terminals that use each other in any way."""
    count, terminals = chance.choice((1, 3, 8, 30, 200)), chance.choice((1, 3, 10))
    names = [f"r{number}" for number in range(count)]
    words = [f"T{number}" for number in range(terminals)]
    lines = [f"start: {expression(chance, names + words, 3)}"]
    for name in names:
        attribute = chance.choice(("",) * 12 + ("[lazy]", "[capture]", "[max_tokens=5]", '[suffix="."]', "[stop=/x/]"))
        lines.append(f"{name}{attribute}: {expression(chance, names + words, chance.randint(1, 4))}")
    lines += [f"{name}: {terminal(chance, words[number + 1 :], 3)}" for number, name in enumerate(words)]
    if chance.random() < 0.1:
        lines.append(f"%ignore /{regex(chance, 2)}/")
    if chance.random() < 0.1:
        lines.append(f"rj: %json {json.dumps(schema(chance))}")
        lines[0] += " rj"
    return "\n".join(lines)


def expression(chance: random.Random, names: list[str], depth: int) -> str:
    """What a rule may consist of."""
    match chance.randrange(9 if depth else 3):
        case 0 | 1:
            return chance.choice(names)
        case 2:
            return chance.choice((f'"{text(chance)}"', f"/{regex(chance, 2)}/", "<[300]>", '""', "%json {}"))
        case 3:
            return " | ".join(expression(chance, names, depth - 1) for _ in range(chance.randint(2, 5)))
        case 4 | 5:
            return " ".join(f"({expression(chance, names, depth - 1)})" for _ in range(chance.randint(2, 4)))
        case _:
            return f"({expression(chance, names, depth - 1)}){repeated(chance, lazy=False)}"


def terminal(chance: random.Random, names: list[str], depth: int) -> str:
    """What a terminal may consist of."""
    match chance.randrange(7 if depth else 2):
        case 0 | 1:
            return chance.choice([f'"{text(chance)}"', f"/{regex(chance, 3)}/", *names])
        case 2 | 3:
            joint = chance.choice((" | ", " ", " & "))
            return joint.join(f"({terminal(chance, names, depth - 1)})" for _ in range(chance.choice((2, 3, 12))))
        case 4:
            return f"~({terminal(chance, names, depth - 1)})"
        case _:
            return f"({terminal(chance, names, depth - 1)}){repeated(chance, lazy=False)}"


def chained_rules(chance: random.Random) -> str:
    """Rules or terminals that lead from one to the next, or all at once to many."""
    count, name = chance.choice((50, 150, 199, 500, 3_000, 12_000)), chance.choice("rT")
    end = chance.choice((f"{name}0", '"x"', "/x+/")) if name == "r" else '"x"'
    tail = chance.choice(("", "", ' "a"', " |")) if name == "r" else chance.choice(("", ' "a"'))
    lines = [f"{name}{number}: {name}{number + 1}{tail}" for number in range(count)]
    chance.shuffle(lines)
    return "\n".join([f"start: {name}0", *lines, f"{name}{count}: {end}"])


# Regular expressions


def regex(chance: random.Random, depth: int) -> str:
    """An expression; some have what is not supported."""
    match chance.randrange(9 if depth else 3):
        case 0:
            return chance.choice(
                (".", "\\w", "\\d+", "\\s", "[a-f]", "[^x]", "\\p{L}", "(?s:.)*", "é", "\\b", "^", "$")
            )
        case 1 | 2:
            return text(chance)
        case 3 | 4:
            return "".join(regex(chance, depth - 1) for _ in range(chance.randint(2, 5)))
        case 5:
            return "(" + "|".join(regex(chance, depth - 1) for _ in range(chance.choice((2, 3, 20)))) + ")"
        case 6:
            return f"({chance.choice(('', '?:', '?i:', '?:', '?=', '?P<n>'))}{regex(chance, depth - 1)})"
        case _:
            return f"({regex(chance, depth - 1)}){repeated(chance)}"


def repeated(chance: random.Random, *, lazy: bool = True) -> str:
    """How often something comes."""
    high = chance.choice((2, 2, 5, 5, 20, 300, 5_000, 10**6, 10**10))
    low = chance.randint(0, high)
    counts = (f"{{{low}}}", f"{{{low},}}", f"{{{low},{high}}}", f"{{0,{high}}}")
    return chance.choice(("?", "*", "+", "+?" if lazy else "+", *counts))


def text(chance: random.Random) -> str:
    """Some letters."""
    return "".join(chance.choices(string.ascii_letters + "  0é", k=chance.choice((1, 1, 3, 12, 200))))


# JSON schemas


def schema(chance: random.Random, depth: int = 4) -> Any:
    """A schema, with definitions that may refer to each other."""
    names = [f"d{number}" for number in range(chance.choice((0, 0, 2, 20)))]
    made = part(chance, names, depth)
    if names and isinstance(made, dict):
        made["$defs"] = {name: part(chance, names, chance.randint(0, 3)) for name in names}
    return made


def part(chance: random.Random, names: list[str], depth: int) -> Any:
    """A schema within a schema."""
    match chance.randrange(12 if depth else 6):
        case 0:
            return {"type": "string", **some(chance, STRINGS)}
        case 1:
            return {"type": chance.choice(("integer", "number")), **some(chance, NUMBERS)}
        case 2:
            return {
                "enum": [chance.choice((text(chance), number, None)) for number in range(chance.choice((1, 5, 500)))]
            }
        case 3:
            return chance.choice(({}, True, {"type": "boolean"}, {"const": {"a": [1, text(chance)]}}, {"type": "null"}))
        case 4 | 5:
            return {"$ref": f"#/$defs/{chance.choice(names)}"} if names else {"type": ["string", "null"]}
        case 6 | 7:
            kind = chance.choice(("anyOf", "oneOf", "allOf"))
            return {kind: [part(chance, names, depth - 1) for _ in range(chance.choice((1, 2, 3, 12)))]}
        case 8 | 9:
            return array(chance, names, depth)
        case _:
            return an_object(chance, names, depth)


def array(chance: random.Random, names: list[str], depth: int) -> dict:
    """A schema of an array."""
    made: dict[str, Any] = {"type": "array", "items": part(chance, names, depth - 1), **some(chance, ARRAYS)}
    if chance.random() < 0.2:
        made["prefixItems"] = [part(chance, names, depth - 1) for _ in range(chance.randint(1, 6))]
    return made


def an_object(chance: random.Random, names: list[str], depth: int) -> dict:
    """A schema of an object."""
    keys = [f"k{number}" for number in range(chance.choice((0, 1, 4, 30)))]
    made: dict[str, Any] = {"type": "object", "properties": {key: part(chance, names, depth - 1) for key in keys}}
    made["required"] = [key for key in keys if chance.random() < 0.5]
    if chance.random() < 0.4:
        made["additionalProperties"] = part(chance, names, 0) if chance.random() < 0.4 else False
    if chance.random() < 0.1:
        made["patternProperties"] = {f"^{regex(chance, 1)}$": part(chance, names, 0)}
    return made


def chained_schema(chance: random.Random) -> dict:
    """Definitions that lead from one to the next."""
    count = chance.choice((50, 150, 240, 900))
    ways: list[Callable[[dict], dict]] = [
        lambda ref: ref,
        lambda ref: {"anyOf": [ref, {"type": "null"}]},
        lambda ref: {"type": "array", "items": ref},
        lambda ref: {"type": "object", "properties": {"a": ref}, "required": ["a"]},
        lambda ref: {"allOf": [ref]},
    ]
    way = chance.choice(ways)
    parts = {f"d{number}": way({"$ref": f"#/$defs/d{number + 1}"}) for number in range(count)}
    return {"$ref": "#/$defs/d0", "$defs": {**parts, f"d{count}": {"type": "boolean"}}}


def some(chance: random.Random, keywords: dict[str, Callable[[random.Random], Any]]) -> dict[str, Any]:
    """Some keywords with values."""
    return {name: value(chance) for name, value in keywords.items() if chance.random() < 0.25}


def large(chance: random.Random) -> int:
    """A number of things that may be large."""
    return chance.choice((0, 1, 3, 20, 300, 5_000, 10**6, 10**12))


STRINGS: dict[str, Callable[[random.Random], Any]] = {
    "minLength": large,
    "maxLength": large,
    "pattern": lambda chance: regex(chance, 3),
    "format": lambda chance: chance.choice(("date", "email", "uuid", "uri", "ipv6", "date-time")),
}
NUMBERS: dict[str, Callable[[random.Random], Any]] = {
    "minimum": lambda chance: chance.choice((-1e308, -5, 0, 0.1, 3, 10**9)),
    "maximum": lambda chance: chance.choice((-4, 0.3, 7, 10**6, 2**53, 1e308)),
    "multipleOf": lambda chance: chance.choice((1, 7, 0.01, 1e-9, 97, 10**6)),
}
ARRAYS: dict[str, Callable[[random.Random], Any]] = {"minItems": large, "maxItems": large}
