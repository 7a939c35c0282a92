"""Published benchmarks, read in the form in which their authors publish them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tinyslm.evaluation.tasks.benchmark import Benchmark, Rows
from tinyslm.evaluation.tasks.files import rows_of
from tinyslm.evaluation.tasks.scored import CHOICE, PAIRS, mistake
from tinyslm.evaluation.tasks.task import Row

Change = Callable[[Row, str], dict[str, Any]]
"""A row in the published form and its place to a row of the kind."""


def read_with(change: Change) -> Callable[[Path], Rows]:
    """A reader of files whose rows are changed one by one."""
    return lambda path: ((place, change(row, place)) for place, row in rows_of(path))


def blimp(row: Row, place: str) -> dict[str, Any]:
    """BLiMP (Warstadt et al., 2020), as published or with the fields good, bad and paradigm.

    Sentences begin with a space, as inside of texts, and as in lm-eval, whose figures are those that are published.
    """
    good, bad = (row.get(f"sentence_{name}", row.get(name)) for name in ("good", "bad"))
    good, bad = (f" {one}" if isinstance(one, str) else one for one in (good, bad))
    return {"good": good, "bad": bad, "group": str(row.get("UID", row.get("paradigm", ""))), "id": place}


def arc(row: Row, place: str) -> dict[str, Any]:
    """ARC (Clark et al., 2018), as published (a stem with labelled choices) or as on the hub."""
    question: Any = row.get("question")
    choices: Any = row.get("choices")
    if isinstance(question, Mapping):
        question, choices = str(question.get("stem")), question.get("choices")
    if isinstance(choices, Mapping):
        labels, texts = list(choices.get("label", ())), list(choices.get("text", ()))
    else:
        labels = [one.get("label") for one in choices or () if isinstance(one, Mapping)]
        texts = [one.get("text") for one in choices or () if isinstance(one, Mapping)]
    if row.get("answerKey") not in labels:
        raise mistake(place, f"its answerKey is {row.get('answerKey')!r}, which is none of its labels")
    answer = labels.index(row["answerKey"])
    return {"prompt": f"Question: {question}\nAnswer:", "choices": texts, "answer": answer, "id": row.get("id", place)}


def hellaswag(row: Row, place: str) -> dict[str, Any]:
    """HellaSwag (Zellers et al., 2019), cleaned as lm-eval does: brackets of wikiHow titles removed."""
    second = str(row.get("ctx_b", ""))
    context = str(row.get("ctx", ""))
    if "ctx_a" in row:
        context = f"{row['ctx_a']} {second.capitalize()}"
    prompt = _without_brackets(f"{row.get('activity_label')}: {context}")
    endings = [_without_brackets(str(one)) for one in row.get("endings") or ()]
    return {"prompt": prompt, "choices": endings, "answer": row.get("label"), "id": str(row.get("ind", place))}


def copa(row: Row, place: str) -> dict[str, Any]:
    """COPA (Roemmele et al., 2011), in the form of SuperGLUE."""
    if row.get("question") not in ("cause", "effect"):
        raise mistake(place, 'its "question" is neither "cause" nor "effect"')
    link = "because" if row["question"] == "cause" else "therefore"
    choices = [text[:1].lower() + text[1:] for text in (str(row.get("choice1", "")), str(row.get("choice2", "")))]
    premise = str(row.get("premise", "")).strip()
    return {
        "prompt": f"{premise[:-1] if premise.endswith('.') else premise} {link}",
        "choices": choices,
        "answer": row.get("label"),
        "id": str(row.get("idx", place)),
    }


def prepared(change: Change) -> Change:
    """`change`, or rows with a "query", "choices" and "gold", which are ready."""

    def read(row: Row, place: str) -> dict[str, Any]:
        if "query" in row and "choices" in row and "gold" in row:
            ready = {"prompt": row["query"], "choices": row["choices"], "answer": row["gold"]}
            return {**ready, "id": str(row.get("id", place))}
        return change(row, place)

    return read


def _without_brackets(text: str) -> str:
    """WikiHow's titles as sentences, without what stands in brackets."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


PUBLISHED: dict[str, Benchmark] = {
    "blimp": Benchmark(PAIRS, read_with(blimp), about="English grammar: 67 kinds of minimal pairs"),
    "arc_easy": Benchmark(
        CHOICE,
        read_with(prepared(arc)),
        ("allenai/ai2_arc", "ARC-Easy", "test"),
        about="easy school science",
    ),
    "hellaswag": Benchmark(
        CHOICE,
        read_with(prepared(hellaswag)),
        ("Rowan/hellaswag", "default", "validation"),
        about="which ending follows",
    ),
    "copa": Benchmark(CHOICE, read_with(prepared(copa)), metric="raw", about="cause or effect"),
}
