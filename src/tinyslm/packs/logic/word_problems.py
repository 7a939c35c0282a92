"""Templates of word problems: a text, the ranges of its numbers, and the steps to the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinyslm.packs.pack import Split


@dataclass(frozen=True)
class Problem:
    """text: with {name}, {other}, {things} and the numbers. numbers: the lowest and the highest value of each.

    steps: what is said before a call, and its expression, in which {r0} is the result of the first step.
    """

    text: str
    numbers: Mapping[str, tuple[int, int]]
    steps: Sequence[tuple[str, str]]


NAMES: Mapping[Split, Sequence[str]] = {
    "train": ("Ann", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Henry", "Ivy", "Jack", "Kate", "Liam", "Mia",
              "Noah", "Olga", "Paul", "Rosa", "Sam", "Tina", "Viktor"),
    "test": ("Amir", "Bella", "Chen", "Dora", "Elif", "Goran", "Hana", "Igor", "Jana", "Kofi", "Lena", "Marta"),
}  # fmt: skip
THINGS: Mapping[Split, Sequence[str]] = {
    "train": ("apples", "pencils", "books", "stamps", "marbles", "candles", "cups", "tickets", "roses", "shirts",
              "batteries", "cookies", "postcards", "lamps"),
    "test": ("oranges", "notebooks", "magnets", "shells", "spoons", "tulips", "scarves", "muffins"),
}  # fmt: skip

_TRAIN = (
    Problem(
        "{name} buys {a} {things} for ${b} each and pays with ${c}. How much change does {name} get?",
        {"a": (2, 12), "b": (2, 15), "c": (20, 200)},
        [("The {things} cost:", "{a} * {b}"), ("The change is:", "{c} - {r0}")],
    ),
    Problem(
        "There are {a} boxes with {b} {things} in each. {name} takes out {c} of the {things}. How many are left?",
        {"a": (2, 20), "b": (4, 30), "c": (2, 60)},
        [("In all boxes there are:", "{a} * {b}"), ("What is left:", "{r0} - {c}")],
    ),
    Problem(
        "{name} has {a} {things}. {other} has {b} times as many. How many {things} do they have together?",
        {"a": (3, 60), "b": (2, 9)},
        [("{other} has:", "{a} * {b}"), ("Together they have:", "{a} + {r0}")],
    ),
    Problem(
        "{name} earns ${a} an hour and works {b} hours a day. How much does {name} earn in {c} days?",
        {"a": (9, 40), "b": (3, 9), "c": (2, 24)},
        [("In a day {name} earns:", "{a} * {b}"), ("In all these days:", "{r0} * {c}")],
    ),
    Problem(
        "{a} children share {b} {things} equally. {name} is one of them and gives {c} away. How many does {name} keep?",
        {"a": (2, 12), "b": (12, 180), "c": (1, 8)},
        [("Each child gets:", "{b} / {a}"), ("{name} keeps:", "{r0} - {c}")],
    ),
    Problem(
        "A shop sold {a} {things} on Monday, {b} on Tuesday and {c} on Wednesday. Each costs ${d}. "
        "How much money did the shop take in?",
        {"a": (5, 60), "b": (5, 60), "c": (5, 60), "d": (2, 12)},
        [("All {things} sold:", "{a} + {b} + {c}"), ("The money is:", "{r0} * {d}")],
    ),
    Problem(
        "{name} saves ${a} every week. After {b} weeks, {name} spends ${c} on {things}. How many dollars remain?",
        {"a": (4, 50), "b": (3, 30), "c": (5, 200)},
        [("Saved so far:", "{a} * {b}"), ("What remains:", "{r0} - {c}")],
    ),
    Problem(
        "{name} is {a} years old. {other} is {b} years older. What is the sum of their ages in {c} years?",
        {"a": (4, 50), "b": (2, 30), "c": (2, 20)},
        [
            ("{other} is now:", "{a} + {b}"),
            ("The sum of their ages now:", "{a} + {r0}"),
            ("Both grow older:", "{r1} + 2 * {c}"),
        ],
    ),
    Problem(
        "A pack of {a} {things} costs ${b}. {name} needs {c} {things}. How many dollars does {name} pay?",
        {"a": (2, 12), "b": (3, 20), "c": (12, 144)},
        [("Packs needed:", "{c} / {a}"), ("The price is:", "{r0} * {b}")],
    ),
    Problem(
        "{name} reads {a} pages each day from a book of {b} pages. How many pages are left after {c} days?",
        {"a": (5, 40), "b": (100, 600), "c": (3, 14)},
        [("Pages read:", "{a} * {c}"), ("Pages left:", "{b} - {r0}")],
    ),
    Problem(
        "{name} collects {a} {things} in the morning and twice as many in the afternoon. {name} gives a third of them "
        "to {other}. How many does {other} get?",
        {"a": (2, 90)},
        [("In the afternoon:", "2 * {a}"), ("On the whole day:", "{a} + {r0}"), ("{other} gets:", "{r1} / 3")],
    ),
    Problem(
        "A train has {a} cars with {b} seats each. {c} seats are taken. At the next stop {d} people get off. "
        "How many seats are free then?",
        {"a": (3, 12), "b": (20, 80), "c": (30, 400), "d": (5, 30)},
        [("All seats:", "{a} * {b}"), ("Free before the stop:", "{r0} - {c}"), ("Free after it:", "{r1} + {d}")],
    ),
    Problem(
        "The price of a coat is ${a}. It is reduced by {b} percent. {name} buys {c} of these coats. What is the total?",
        {"a": (20, 300), "b": (5, 60), "c": (2, 5)},
        [("The reduction:", "{a} * {b} / 100"), ("The new price:", "{a} - {r0}"), ("The total:", "{r1} * {c}")],
    ),
    Problem(
        "{name} bakes {a} trays of {b} muffins. {c} are burnt, and the others are sold for ${d} each. "
        "How much does {name} take in?",
        {"a": (2, 10), "b": (6, 24), "c": (1, 12), "d": (1, 6)},
        [("Muffins baked:", "{a} * {b}"), ("Muffins sold:", "{r0} - {c}"), ("Money taken in:", "{r1} * {d}")],
    ),
    Problem(
        "A tank holds {a} liters. A tap fills {b} liters each minute, and a leak loses {c} liters each minute. "
        "After how many minutes is the tank full?",
        {"a": (20, 400), "b": (6, 30), "c": (1, 5)},
        [("Gained in a minute:", "{b} - {c}"), ("Minutes needed:", "{a} / {r0}")],
    ),
    Problem(
        "{name} and {other} together have {a} {things}. {name} has {b} more than {other}. How many does {other} have?",
        {"a": (10, 200), "b": (2, 60)},
        [("Without the extra ones:", "{a} - {b}"), ("{other} has:", "{r0} / 2")],
    ),
)
_TEST = (
    Problem(
        "On each of {a} shelves, {name} puts {b} {things}; {c} more stay in a bag. How many {things} are there in all?",
        {"a": (2, 15), "b": (3, 25), "c": (2, 40)},
        [("On the shelves:", "{a} * {b}"), ("In all:", "{r0} + {c}")],
    ),
    Problem(
        "{name} had ${a}, bought a lamp for ${b}, and divided the rest equally among {c} cousins. "
        "How many dollars did every cousin receive?",
        {"a": (40, 400), "b": (10, 120), "c": (2, 8)},
        [("The rest:", "{a} - {b}"), ("Every cousin:", "{r0} / {c}")],
    ),
    Problem(
        "A ferry crosses {a} times daily and carries {b} cars per crossing. Every car pays ${c}. "
        "What does the ferry earn daily?",
        {"a": (2, 12), "b": (5, 40), "c": (2, 15)},
        [("Cars daily:", "{a} * {b}"), ("Earned:", "{r0} * {c}")],
    ),
    Problem(
        "{name} picked {a} kilos of cherries, {other} picked {b} kilos fewer. They filled jars of {c} kilos with them. "
        "How many jars did they fill?",
        {"a": (10, 90), "b": (2, 30), "c": (2, 6)},
        [("{other} picked:", "{a} - {b}"), ("Together:", "{a} + {r0}"), ("Jars:", "{r1} / {c}")],
    ),
    Problem(
        "A runner covers {a} meters per lap and has done {b} laps of a race over {c} meters. How many meters remain?",
        {"a": (200, 500), "b": (2, 12), "c": (3000, 10000)},
        [("Covered:", "{a} * {b}"), ("Remaining:", "{c} - {r0}")],
    ),
    Problem(
        "{name} plants {a} rows of {b} {things}. A storm destroys {c} of them, and then {d} new ones are added. "
        "How many are there now?",
        {"a": (3, 15), "b": (4, 25), "c": (3, 50), "d": (2, 40)},
        [("Planted:", "{a} * {b}"), ("After the storm:", "{r0} - {c}"), ("Now:", "{r1} + {d}")],
    ),
)
PROBLEMS: Mapping[Split, Sequence[Problem]] = {"train": _TRAIN, "test": _TEST}
