"""Small deduction puzzles: who is the tallest, who owns what. A solver tries every arrangement.

An arrangement is an order of names ("order"), or the things of the names in their order ("owner"). Clues are lists:

    ["before", "Ann", "Bob"]          Ann stands before Bob in the order
    ["place", "Ann", 2]               Ann has the second place
    ["owns", "Ann", "cat"]            and "owns not"
    ["either", "Ann", "cat", "dog"]   Ann owns one of the two
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from random import Random
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.graders import Example, Grade
from tinyslm.packs.pack import Row, Skill, Split

Clue = Sequence[Any]
Arrangement = Sequence[str]

NAMES: Mapping[Split, Sequence[str]] = {
    "train": ("Ann", "Bob", "Cid", "Dan", "Eve", "Flo", "Gus", "Hal", "Ida", "Jim", "Kim", "Leo", "May", "Ned", "Oda",
              "Pat", "Ray", "Sue", "Tom", "Una"),
    "test": ("Abel", "Bea", "Curt", "Dina", "Egon", "Fay", "Gil", "Hugo", "Iris", "Joel"),
}  # fmt: skip
MOST = 7
"""The most names or things of a puzzle, for which every arrangement is tried."""


@dataclass(frozen=True)
class Relation:
    """How an order is spoken of: "Ann is {more} than Bob", its opposite, and who is first and last."""

    more: str
    less: str
    first: str
    last: str


RELATIONS: Mapping[Split, Sequence[Relation]] = {
    "train": (
        Relation("taller", "shorter", "tallest", "shortest"),
        Relation("older", "younger", "oldest", "youngest"),
        Relation("faster", "slower", "fastest", "slowest"),
        Relation("heavier", "lighter", "heaviest", "lightest"),
        Relation("stronger", "weaker", "strongest", "weakest"),
    ),
    "test": (
        Relation("richer", "poorer", "richest", "poorest"),
        Relation("louder", "quieter", "loudest", "quietest"),
        Relation("happier", "sadder", "happiest", "saddest"),
    ),
}
ORDER_TEXTS: Mapping[Split, Sequence[str]] = {
    "train": (
        "{clues} Who is the {end}?",
        "Here are some facts about {names}. {clues} Which of them is the {end}?",
        "Who is the {end} of {names}? {clues}",
        "{clues} Name the {end} person.",
    ),
    "test": (
        "Compare {names}: {clues} Tell me who is {end}.",
        "{clues} Of these people, who comes out as the {end}?",
    ),
}
THINGS: Mapping[Split, Sequence[Sequence[str]]] = {
    "train": (
        ("cat", "dog", "bird", "fish", "rabbit"),
        ("bike", "car", "scooter", "van", "boat"),
        ("piano", "violin", "flute", "drum", "guitar"),
        ("red hat", "blue hat", "green hat", "white hat"),
        ("tea", "coffee", "milk", "juice", "water"),
    ),
    "test": (
        ("horse", "goat", "hen", "duck", "sheep"),
        ("kite", "ball", "puzzle", "robot", "doll"),
        ("watch", "ring", "scarf", "umbrella"),
    ),
}
OWNER_TEXTS: Mapping[Split, Sequence[str]] = {
    "train": (
        "{names} each have one of these: {things}. {clues} {question}",
        "Each of {names} has exactly one thing: {things}. {clues} {question}",
        "{question} {names} have one of these each: {things}. {clues}",
    ),
    "test": (
        "The {things} belong to {names}, one to every person. {clues} {question}",
        "One thing per person: {names} share {things} among them. {clues} {question}",
    ),
}


def solutions(row: Mapping[str, Any]) -> list[Arrangement]:
    """Every arrangement that fits the clues of a row, which names "names", "clues" and, for owners, "things"."""
    names, things = list(row["names"]), list(row.get("things") or ())
    if max(len(names), len(things)) > MOST:
        raise ValueError(f"more than {MOST} names or things")
    tried = permutations(things, len(names)) if things else permutations(names)
    return [one for one in tried if all(_fits(clue, names, one) for clue in row["clues"])]


def _fits(clue: Clue, names: Sequence[str], found: Arrangement) -> bool:
    kind, name, *rest = clue
    match kind:
        case "before":
            return found.index(name) < found.index(rest[0])
        case "place":
            return bool(found.index(name) + 1 == rest[0])
        case "owns":
            return bool(found[names.index(name)] == rest[0])
        case "owns not":
            return bool(found[names.index(name)] != rest[0])
        case "either":
            return found[names.index(name)] in rest
    raise ValueError(f"{kind!r:.40} is no clue")


def solved(row: Mapping[str, Any]) -> str:
    """The answer to a row's "question": ["place", number], ["who", thing] or ["what", name].

    Raises `ValueError` unless all arrangements that fit the clues have the same one.
    """
    kind, asked = row["question"]
    names = list(row["names"])
    answers = set()
    for found in solutions(row):
        if kind == "place":
            answers.add(found[asked - 1])
        else:
            answers.add(names[list(found).index(asked)] if kind == "who" else found[names.index(asked)])
    if len(answers) != 1:
        raise ValueError(f"{len(answers)} answers fit the clues")
    return str(answers.pop())


def make(random: Random, split: Split) -> Row:
    """A puzzle with exactly one solution, and no clue more than it takes."""
    names = random.sample(NAMES[split], random.choice((3, 3, 4)))
    return _order(random, split, names) if random.random() < 0.5 else _owners(random, split, names)


def _order(random: Random, split: Split, names: list[str]) -> Row:
    relation = random.choice(RELATIONS[split])
    order = random.sample(names, len(names))
    pairs: list[Clue] = [
        ["before", first, second] for number, first in enumerate(order) for second in order[number + 1 :]
    ]
    clues = _fewest(random, pairs, {"names": names})
    said = [
        f"{first} is {relation.more} than {second}."
        if random.random() < 0.5
        else f"{second} is {relation.less} than {first}."
        for _, first, second in clues
    ]
    place = random.choice((1, len(names)))
    end = relation.first if place == 1 else relation.last
    text = random.choice(ORDER_TEXTS[split]).format(names=listed(names), clues=" ".join(said), end=end)
    row = {"names": names, "clues": clues, "question": ["place", place]}
    told = f"From {relation.first} to {relation.last}: {', '.join(order)}."
    return _row(row, text, told, order[place - 1])


def _owners(random: Random, split: Split, names: list[str]) -> Row:
    things = random.sample(random.choice(THINGS[split]), len(names))
    owned = dict(zip(names, random.sample(things, len(things)), strict=True))
    possible: list[Clue] = []
    for name, thing in owned.items():
        others = [one for one in things if one != thing]
        possible += [["owns not", name, one] for one in others]
        possible.append(["either", name, *random.sample([thing, random.choice(others)], 2)])
    for name in random.sample(names, len(names) - 2):
        possible.append(["owns", name, owned[name]])
    clues = _fewest(random, possible, {"names": names, "things": things})
    told_already = {name for kind, name, *_ in clues if kind == "owns"}
    owner = random.choice([name for name in names if name not in told_already])
    kind, asked, answer = random.choice((("what", owner, owned[owner]), ("who", owned[owner], owner)))
    question = f"What does {asked} have?" if kind == "what" else f"Who has the {asked}?"
    said = " ".join(_said(clue) for clue in clues)
    text = random.choice(OWNER_TEXTS[split]).format(
        names=listed(names), things=listed(things), clues=said, question=question
    )
    row = {"names": names, "things": things, "clues": clues, "question": [kind, asked]}
    told = f"{', '.join(f'{name}: {thing}' for name, thing in owned.items())}."
    return _row(row, text, told, answer)


def _fewest(random: Random, clues: list[Clue], row: Mapping[str, Any]) -> list[Clue]:
    """Clues in random order, none of which can be left out, that have one solution."""
    kept = random.sample(clues, len(clues))
    for clue in list(kept):
        fewer = [one for one in kept if one is not clue]
        if len(solutions({**row, "clues": fewer})) == 1:
            kept = fewer
    return kept


def _said(clue: Clue) -> str:
    kind, name, *rest = clue
    if kind == "either":
        return f"{name} has the {rest[0]} or the {rest[1]}."
    return f"{name} has the {rest[0]}." if kind == "owns" else f"{name} does not have the {rest[0]}."


def _row(row: Mapping[str, Any], text: str, told: str, answer: str) -> Row:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": f"{told}\nAnswer: {answer}"}]
    return {"messages": messages, "answer": answer, **row, "chance": 1 / len(row["names"])}


def listed(words: Sequence[str]) -> str:
    """Words with commas, and "and" before the last."""
    return f"{', '.join(words[:-1])} and {words[-1]}"


def grade(example: Example, answer: str) -> Grade:
    """The answer names the solution of the example's clues, which is found here by trying every arrangement.

    What counts is the last of the names or things in the answer.
    """
    try:
        wanted = solved(example)
        choices = example["things"] if example["question"][0] == "what" else example["names"]
    except (KeyError, TypeError, ValueError) as error:
        raise TinyslmError(f"An example's clues cannot be used: {error}.", "Correct the example.") from None
    found = [(one.start(), choice) for choice in choices
             for one in re.finditer(rf"(?<!\w){re.escape(choice)}(?!\w)", answer, re.IGNORECASE)]  # fmt: skip
    if not found:
        return Grade(0.0, why="none of the possible answers")
    said = max(found)[1]
    return Grade(float(said == wanted), why=said)


DEDUCTION = Skill("deduction", "who is first or last, who has what, from a few clues", make, grade, max_tokens=96)
