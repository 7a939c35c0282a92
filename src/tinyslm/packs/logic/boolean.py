"""Boolean expressions with given values: are they true?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal
from zlib import crc32

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.graders import Example, Grade
from tinyslm.packs.pack import Row, Skill, Split

VARIABLES: Mapping[Split, Sequence[str]] = {"train": ("A", "B", "C", "D", "E", "F"), "test": ("P", "Q", "R", "S", "T")}
TEMPLATES: Mapping[Split, Sequence[str]] = {
    "train": (
        "{given}. Is it true that {expression}?",
        "Given that {given}, evaluate this expression: {expression}",
        "{given}. Is the statement {expression} true or false?",
        "Let {given}. What is the value of {expression}?",
        "Evaluate {expression}, where {given}.",
        "We know that {given}. Does it follow that {expression}?",
    ),
    "test": (
        "Suppose {given}. True or false: {expression}",
        "If {given}, what does {expression} come to?",
        "Check whether {expression} holds when {given}.",
    ),
}
OPERATORS = ("and", "or", "xor")
HELD_OUT = 5
"""One of so many shapes of expressions is only for testing, chosen by a hash."""


@dataclass(frozen=True)
class Node:
    """A variable (`operator` "" and its name), or an operator on one node ("not") or two."""

    operator: Literal["", "not", "and", "or", "xor"]
    parts: tuple[Node, ...] = ()
    name: str = ""

    def value(self, values: Mapping[str, bool]) -> bool:
        """Raises `KeyError` for a variable without a value."""
        if not self.operator:
            return values[self.name]
        found = [part.value(values) for part in self.parts]
        match self.operator:
            case "not":
                return not found[0]
            case "and":
                return all(found)
            case "or":
                return any(found)
        return found[0] != found[1]

    def text(self, *, outer: bool = True, named: bool = True) -> str:
        """As it is written; parts with two operands are in brackets. named: otherwise each variable is "x"."""
        if not self.operator:
            return self.name if named else "x"
        if self.operator == "not":
            return f"not {self.parts[0].text(outer=False, named=named)}"
        left, right = (part.text(outer=False, named=named) for part in self.parts)
        return f"{left} {self.operator} {right}" if outer else f"({left} {self.operator} {right})"

    def inner(self) -> list[Node]:
        """The nodes with operators, the innermost first."""
        return [*(node for part in self.parts for node in part.inner()), self] if self.operator else []


def draw(random: Random, names: Sequence[str], operators: int) -> Node:
    """A random expression with so many operators of two operands, and some "not"."""
    if not operators:
        leaf = Node("", name=random.choice(names))
        return Node("not", (leaf,)) if random.random() < 0.3 else leaf
    left = random.randrange(operators)
    parts = (draw(random, names, left), draw(random, names, operators - 1 - left))
    operator: Literal["and", "or", "xor"] = random.choices(("and", "or", "xor"), (4, 4, 1))[0]
    node = Node(operator, parts)
    return Node("not", (node,)) if random.random() < 0.15 else node


def is_held_out(expression: Node) -> bool:
    """Whether expressions of this shape are only for testing; single operators are in both splits."""
    shape = expression.text(named=False)
    return shape.count("x ") > 1 and crc32(shape.encode()) % HELD_OUT == 0


def make(random: Random, split: Split) -> Row:
    """A question about an expression of one to four operators; true and false are equally likely."""
    wanted = random.random() < 0.5
    while True:
        names = random.sample(VARIABLES[split], random.randint(2, 4))
        expression = draw(random, names, random.randint(1, 4))
        used = sorted(set(re.findall(r"\b[A-Z]\b", expression.text())))
        values = {name: random.random() < 0.5 for name in used}
        if len(used) > 1 and expression.value(values) == wanted and is_held_out(expression) == (split == "test"):
            break
    given = ", ".join(f"{name} is {_word(value)}" for name, value in values.items())
    text = expression.text()
    asked = random.choice(TEMPLATES[split]).format(given=given, expression=text)
    lines = [f"{node.text()} = {_word(node.value(values))}" for node in expression.inner()]
    answer = _word(wanted)
    messages = [
        {"role": "user", "content": asked[0].upper() + asked[1:]},
        {"role": "assistant", "content": "\n".join([*dict.fromkeys(lines), f"Answer: {answer}"])},
    ]
    return {"messages": messages, "answer": answer, "expression": text, "values": values, "chance": 0.5}


_TOKEN = re.compile(r"\s*(?:([A-Za-z_]\w*)|([()]))")


def parse(text: str) -> Node:
    """Read an expression of variables, brackets, and (from the tightest) not, and, xor, or. Raises `ValueError`."""
    words, place = list[str](), 0
    while place < len(text.rstrip()):
        if not (match := _TOKEN.match(text, place)):
            raise ValueError(f"{text[place:]!r:.40} cannot be read")
        words.append(match[1] or match[2])
        place = match.end()
    left = list(reversed(words))
    node = _level(left, 0)
    if left:
        raise ValueError(f"{left[-1]} is not expected")
    return node


_LEVELS: Sequence[Literal["or", "xor", "and"]] = ("or", "xor", "and")


def _level(left: list[str], level: int) -> Node:
    """Read operands of `_LEVELS[level]` off the end of the reversed words."""
    if level == len(_LEVELS):
        return _operand(left)
    node = _level(left, level + 1)
    while left and left[-1].lower() == _LEVELS[level]:
        left.pop()
        node = Node(_LEVELS[level], (node, _level(left, level + 1)))
    return node


def _operand(left: list[str]) -> Node:
    if not left:
        raise ValueError("it ends too early")
    word = left.pop()
    if word.lower() == "not":
        return Node("not", (_operand(left),))
    if word == "(":
        node = _level(left, 0)
        if not left or left.pop() != ")":
            raise ValueError("a bracket is not closed")
        return node
    if word == ")" or word.lower() in OPERATORS:
        raise ValueError(f"{word} is not expected")
    return Node("", name=word)


def grade(example: Example, answer: str) -> Grade:
    """The answer says whether the example's "expression" is true for its "values", which is worked out here.

    What counts is the last "true", "false", "yes" or "no".
    """
    try:
        wanted = parse(str(example["expression"])).value(example["values"])
    except (KeyError, TypeError, ValueError) as error:
        raise TinyslmError(f"An example's expression has no value: {error}.", "Correct the example.") from None
    said = re.findall(r"\b(true|yes|false|no)\b", answer.lower())
    if not said:
        return Grade(0.0, why="neither true nor false")
    return Grade(float((said[-1] in ("true", "yes")) == wanted), why=said[-1])


def _word(value: bool) -> str:
    return "true" if value else "false"


BOOLEAN = Skill("boolean", "whether expressions of and, or, xor, not are true", make, grade, max_tokens=160)
