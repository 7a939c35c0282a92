"""The texts of the study of tokenization, and the questions about them: formulas and sums are generated."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tinyslm.core.files import write_atomic
from tinyslm.data.standard_library import standard_library
from tinyslm.packs.excel.requests import Request, make_request
from tinyslm.packs.excel.sheets import letter_of

FORMULAS, SUMS = 60_000, 20_000
"""Documents: a request with its formula, and some lines of additions."""
SUMS_IN_A_DOCUMENT = 10
STORIES_AMONG_SUMS = 1_000_000
"""Characters of stories that are mixed in: with words in them, all vocabularies of the study are possible, and hold all
groups of digits."""
ASKED = {"formulas": 150, "sums": 300}
ANSWER_TOKENS = {"formulas": 160, "sums": 16}
LONGEST = 500
"""Characters of a request with its formula; longer ones are left out."""


class Question(NamedTuple):
    """What a model continues, the right answer, and what a grader reads."""

    prompt: str
    answer: str
    fields: dict[str, Any]


def formula_questions(seed: int) -> Iterator[Question]:
    """Requests about generated tables, without end."""
    random = Random(f"tokenization {seed}")
    while True:
        made = make_request(random, "train")
        prompt = f"{columns(made)}\n{made.text}\n"
        if len(prompt) + len(made.formula) < LONGEST:
            yield Question(prompt, made.formula, made.fields())


def columns(request: Request) -> str:
    """A line with the header and the letter of each column, and the last row."""
    sheet = request.table.sheet
    headers = [f"{' '.join(header.split())} {letter_of(index)}" for index, header in enumerate(sheet.headers)]
    return " | ".join([*headers, f"rows 2 to {sheet.last}", *([request.mode] if request.mode else [])])


def sum_questions(seed: int) -> Iterator[Question]:
    """Additions of numbers of one to three digits, without end."""
    random = Random(f"sums {seed}")
    while True:
        one, two = (random.randrange(10 ** random.randint(1, 3)) for _ in range(2))
        digits = len(str(max(one, two)))
        yield Question(f"{one}+{two}=", str(one + two), {"digits": digits})


QUESTIONS: dict[str, Callable[[int], Iterator[Question]]] = {"formulas": formula_questions, "sums": sum_questions}


def write_texts(name: str, data: Path, work: Path) -> tuple[list[str], list[str]]:
    """The paths of a text to train on, and those of its held-out text if it has one of its own; generates it once."""
    if name == "stories":
        return [str(data / "stories" / "train.jsonl")], [str(data / "stories" / "valid.jsonl")]
    if name == "python":
        return standard_library(), []
    file = work / f"{name}.jsonl"
    if not file.is_file():
        questions = QUESTIONS[name](1)
        asked = {one.prompt for one in held_out(name)}
        fresh = (f"{one.prompt}{one.answer}\n" for one in questions if one.prompt not in asked)
        count, each = (FORMULAS, 1) if name == "formulas" else (SUMS, SUMS_IN_A_DOCUMENT)
        documents = ["".join(next(fresh) for _ in range(each)) for _ in range(count)]
        if name == "sums":
            documents += stories(data)
        write_atomic(file, "".join(json.dumps({"text": text}) + "\n" for text in documents))
    return [str(file)], []


def stories(data: Path) -> Iterator[str]:
    """The first stories, `STORIES_AMONG_SUMS` characters."""
    left = STORIES_AMONG_SUMS
    with (data / "stories" / "train.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            text = json.loads(line)["text"]
            yield text
            left -= len(text)
            if left <= 0:
                return


def held_out(name: str) -> Sequence[Question]:
    """The questions that models are asked; their prompts are in no text."""
    found: dict[str, Question] = {}
    for one in QUESTIONS[name](2):
        found.setdefault(one.prompt, one)
        if len(found) == ASKED[name]:
            break
    return list(found.values())


def write_task(name: str, folder: Path) -> Path:
    """A task of `tinyslm evaluate` with the held-out questions: greedy answers, until the line ends."""
    rows = [{"prompt": one.prompt, "answer": one.answer} for one in held_out(name)]
    (folder / f"{name}-rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = folder / f"{name}.toml"
    lines = {"kind": "generation", "data": f"{name}-rows.jsonl", "prompt": "{prompt}", "grader": "exact"}
    written = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
    task.write_text(f'{written}stop = ["\\n"]\nmax_tokens = {ANSWER_TOKENS[name]}\n', encoding="utf-8")
    return task
