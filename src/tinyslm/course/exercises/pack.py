"""Exercise: a pack, added by a plugin."""

from __future__ import annotations

import re
from typing import Any

from tinyslm.course.exercises.exercise import Check, Exercise
from tinyslm.packs.pack import PACKS, Row, Split, question_of

ROWS = 200
DAY = 24 * 60


def _rows(split: Split = "train") -> list[Row]:
    return list(PACKS["clock"].generate(split, ROWS, seed=1))


def _time(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)


def _conversations(_module: Any) -> str:
    if "clock" not in PACKS:
        return 'The file adds no pack "clock".'
    for row in _rows():
        if row["messages"][-1]["role"] != "assistant" or row["answer"] not in row["messages"][-1]["content"]:
            return f"A row does not end with its right answer: {row['messages']}"
        if not all(str(row[name]) in question_of(row) for name in ("start", "minutes")):
            return f"The question {question_of(row)!r} does not have the row's start and minutes in it."
    return ""


def _right(_module: Any) -> str:
    for row in _rows():
        later = (_time(row["start"]) + row["minutes"]) % DAY
        if row["answer"] != f"{later // 60:02}:{later % 60:02}":
            right = f"{later // 60:02}:{later % 60:02}"
            return f"{row['minutes']} minutes after {row['start']} it is {right}, not {row['answer']}."
    return ""


def _wide(_module: Any) -> str:
    rows = _rows()
    if not any(_time(row["start"]) % 60 + row["minutes"] >= 60 for row in rows):
        return f"In none of {ROWS} questions does the hour change: a model would not learn to carry."
    if not any(_time(row["start"]) + row["minutes"] >= DAY for row in rows):
        return f"None of {ROWS} questions goes past midnight."
    starts = len({row["start"] for row in rows})
    return "" if starts >= ROWS // 4 else f"{ROWS} questions have only {starts} different times to start from."


def _held_out(_module: Any) -> str:
    forms = [{re.sub(r"\d+", "#", question_of(row)) for row in _rows(split)} for split in ("train", "test")]
    if shared := forms[0] & forms[1]:
        return f"The wording {shared.pop()!r} occurs in both splits: the test would not show whether it was understood."
    return "" if len(forms[0]) >= 2 else "All questions to learn from have one wording."


def _graded(_module: Any) -> str:
    pack, row = PACKS["clock"], {"skill": "later", "start": "08:50", "minutes": 15, "answer": "09:05"}
    for answer, score in (
        ("09:05", 1), ("9:05", 1), ("It is 09:05.", 1), ("09:06", 0), ("", 0), ("19:05", 0), ("09:050", 0),
        ("08:50 plus 15 minutes is 09:05", 1), ("09:05, or 09:06", 0), ("99:99:99", 0),
    ):  # fmt: skip
        found = pack.grade(row, answer).score
        if found != score:
            return f"The answer {answer!r} for 09:05 gets {found}, not {score}. The last time in an answer counts."
    return ""


PACK = Exercise(
    title="A pack",
    about="Everything for one task: a generator of questions and answers, a grader, and held-out test rows.",
    task=(
        "A pack has everything for one task; tinyslm packs train trains a model on it. Its main part is a "
        "generator that computes right answers, so that the number of examples is unlimited.",
        "Complete the pack “clock”: what time is it so many minutes after another time? Times begin at any minute of "
        "the day, the hour may change, and after 23:59 comes 00:00. A row has the fields start, minutes and answer; "
        "times are written as 09:05.",
        "Questions to learn from have at least two wordings, and test questions have others, none of which is "
        "learned. The grader takes the last time in an answer, so that whole sentences count, and 9:05 is the same as "
        "09:05.",
    ),
    hints=(
        "Count in minutes since midnight; divmod(minutes % 1440, 60) gives the hour and the minute.",
        "The argument split of make is “train” or “test”: have a list of wordings for each.",
        r"re.findall(r'(?<!\d)(\d{1,2}):(\d{2})(?!\d)', answer) gives the times in an answer.",
    ),
    start="exercises/pack.py",
    checks=(
        Check("The plugin adds a pack “clock” whose rows end with the right answer.", _conversations),
        Check("The answers are right.", _right),
        Check("Questions carry to the next hour, and to the next day.", _wide),
        Check("Test questions have wordings of their own.", _held_out),
        Check("The grader reads the last time of an answer.", _graded),
    ),
    then=(
        "tinyslm packs show FILE --rows 3",
        "tinyslm packs train FILE --params 1M --minutes 5 --out runs/clock",
        "tinyslm packs evaluate FILE runs/clock",
    ),
)
