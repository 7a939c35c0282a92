"""Published benchmarks, read in the format in which their authors publish them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tinyslm.core.errors import did_you_mean
from tinyslm.evaluation.instructions import INSTRUCTIONS
from tinyslm.evaluation.tasks.bfcl import bfcl_rows
from tinyslm.evaluation.tasks.files import files_in, lines_of, rows_of
from tinyslm.evaluation.tasks.generated import GENERATION, TOOL_CALLS
from tinyslm.evaluation.tasks.scored import CHOICE, LAST_WORD, PAIRS, mistake, text_field, texts_field
from tinyslm.evaluation.tasks.task import Row
from tinyslm.evaluation.tasks.task_config import Rows, TaskConfig
from tinyslm.inference.settings import SamplingSettings

Change = Callable[[Row, str], dict[str, Any]]
"""Converts a row in the published format, given with its location, to a row of the task's kind."""


def read_with(change: Change) -> Callable[[Path], Rows]:
    """A reader of one file, or of a folder of `.jsonl` files, that converts each row."""

    def read(path: Path) -> Rows:
        for file in files_in(path, ".jsonl"):
            for place, row in rows_of(file):
                yield place, change(row, place)

    return read


def blimp(row: Row, place: str) -> dict[str, Any]:
    """BLiMP (Warstadt et al., 2020), as published or with the fields good, bad and paradigm.

    Each sentence starts with a space, as within a text and as in lm-eval.
    """
    good, bad = (row.get(f"sentence_{name}", row.get(name)) for name in ("good", "bad"))
    good, bad = (f" {one}" if isinstance(one, str) else one for one in (good, bad))
    return {"good": good, "bad": bad, "group": str(row.get("UID", row.get("paradigm", ""))), "id": place}


def arc(row: Row, place: str) -> dict[str, Any]:
    """ARC (Clark et al., 2018), as published (a stem with labelled choices) or as on the hub."""
    asked = row.get("question")
    if isinstance(asked, Mapping):
        question, choices = text_field(asked, "stem", place), asked.get("choices")
    else:
        question, choices = text_field(row, "question", place), row.get("choices")
    if isinstance(choices, Mapping):
        labels, texts = (texts_field(choices, name, place) for name in ("label", "text"))
    else:
        several = [one for one in choices if isinstance(one, Mapping)] if isinstance(choices, list) else []
        labels, texts = ([text_field(one, name, place) for one in several] for name in ("label", "text"))
    if row.get("answerKey") not in labels:
        raise mistake(place, f"its answerKey {row.get('answerKey')!r} is not one of its labels")
    answer = labels.index(row["answerKey"])
    return {"prompt": f"Question: {question}\nAnswer:", "choices": texts, "answer": answer, "id": row.get("id", place)}


def hellaswag(row: Row, place: str) -> dict[str, Any]:
    """HellaSwag (Zellers et al., 2019), cleaned as in lm-eval: removes the bracketed markers of wikiHow texts."""
    if "ctx_a" in row:
        second = text_field(row, "ctx_b", place, empty=True)
        context = f"{text_field(row, 'ctx_a', place, empty=True)} {second.capitalize()}"
    else:
        context = text_field(row, "ctx", place)
    prompt = _without_brackets(f"{text_field(row, 'activity_label', place)}: {context}")
    endings = [_without_brackets(one) for one in texts_field(row, "endings", place)]
    return {"prompt": prompt, "choices": endings, "answer": row.get("label"), "id": str(row.get("ind", place))}


def copa(row: Row, place: str) -> dict[str, Any]:
    """COPA (Roemmele et al., 2011), in the format of SuperGLUE."""
    if row.get("question") not in ("cause", "effect"):
        raise mistake(place, 'its "question" is neither "cause" nor "effect"')
    link = "because" if row["question"] == "cause" else "therefore"
    choices = [text[:1].lower() + text[1:] for text in (text_field(row, f"choice{number}", place) for number in (1, 2))]
    premise = text_field(row, "premise", place).strip()
    return {
        "prompt": f"{premise[:-1] if premise.endswith('.') else premise} {link}",
        "choices": choices,
        "answer": row.get("label"),
        "id": str(row.get("idx", place)),
    }


def piqa(path: Path) -> Rows:
    """PIQA (Bisk et al., 2020), with labels in the rows, or in the file of labels next to it (`valid-labels.lst`)."""
    file = path.with_name(f"{path.stem}-labels.lst")
    labels = [line for _, line in lines_of(file)] if file.is_file() else []
    for number, (place, row) in enumerate(rows_of(path)):
        label = row.get("label", labels[number] if number < len(labels) else None)
        if label is None:
            raise mistake(place, f'it has no "label", and {file.name} has {len(labels)} lines')
        question = f"Question: {text_field(row, 'goal', place)}\nAnswer:"
        yield place, {"prompt": question, "choices": [row.get("sol1"), row.get("sol2")], "answer": label}


def winogrande(row: Row, place: str) -> dict[str, Any]:
    """Winogrande (Sakaguchi et al., 2019): scores the text after the gap, with each option filled in."""
    before, gap, after = text_field(row, "sentence", place).partition("_")
    if not gap or not after.strip():
        raise mistake(place, 'its "sentence" has no gap "_" with text after it')
    if str(row.get("answer")) not in ("1", "2"):
        raise mistake(place, f"its answer {row.get('answer')!r} is neither 1 nor 2")
    options = [(before + text_field(row, name, place), after) for name in ("option1", "option2")]
    return {"options": options, "answer": int(str(row["answer"])) - 1, "id": str(row.get("qID", place))}


def zorro(path: Path) -> Rows:
    """Zorro (Huebner et al., 2021): one text file per paradigm, or a folder of them.

    Lines 1, 3, ... are ungrammatical; the line after each is its grammatical counterpart.
    """
    for file in files_in(path, ".txt"):
        lines = list(lines_of(file))
        if len(lines) % 2:
            raise mistake(lines[-1][0], "its pair has no second line")
        for (_, bad), (place, good) in zip(lines[::2], lines[1::2], strict=True):
            yield place, {"good": good, "bad": bad, "group": file.stem}


def lambada(path: Path) -> Rows:
    """LAMBADA (Paperno et al., 2016): a text file with one passage per line, or rows with a "text"."""
    if path.suffix != ".txt":
        yield from rows_of(path)
        return
    for place, line in lines_of(path):
        yield place, {"text": line}


def ifeval(row: Row, place: str) -> dict[str, Any]:
    """IFEval (Zhou et al., 2023). On the hub, the kwargs of each instruction have all fields, most of them null."""
    names, given = row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(names, list) or not isinstance(given, list) or len(names) != len(given) or not names:
        raise mistake(place, 'its "instruction_id_list" and "kwargs" are not lists of the same length')
    if unknown := [name for name in names if not isinstance(name, str) or name not in INSTRUCTIONS]:
        close = did_you_mean(str(unknown[0]), INSTRUCTIONS)
        raise mistake(place, f"it has the unknown instruction {unknown[0]!r:.80} ({close})")
    if not all(isinstance(one, Mapping) or one is None for one in given):
        raise mistake(place, 'its "kwargs" are not a list of objects')
    known = [{name: value for name, value in (one or {}).items() if value is not None} for one in given]
    about = {"prompt": text_field(row, "prompt", place), "id": str(row.get("key", place))}
    return {**about, "instructions": names, "kwargs": known}


def prepared(change: Change) -> Change:
    """`change`, except that rows with "query", "choices" and "gold" are used directly."""

    def read(row: Row, place: str) -> dict[str, Any]:
        if "query" in row and "choices" in row and "gold" in row:
            ready = {"prompt": row["query"], "choices": row["choices"], "answer": row["gold"]}
            return {**ready, "id": str(row.get("id", place))}
        return change(row, place)

    return read


def _without_brackets(text: str) -> str:
    """Turn wikiHow titles into sentences and remove the other bracketed markers."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def _arc(config: str, about: str) -> TaskConfig:
    return TaskConfig(CHOICE, read_with(prepared(arc)), ("allenai/ai2_arc", config, "test"), about=about)


PUBLISHED: dict[str, TaskConfig] = {
    "blimp": TaskConfig(
        PAIRS,
        read_with(blimp),
        ("nyu-mll/blimp", "*", "train"),
        about="English grammar: 67 kinds of minimal pairs",
    ),
    "zorro": TaskConfig(PAIRS, zorro, about="grammar with children's vocabulary: 23 kinds of minimal pairs"),
    "arc_easy": _arc("ARC-Easy", "easy school science"),
    "arc_challenge": _arc("ARC-Challenge", "school science that word co-occurrence cannot answer"),
    "hellaswag": TaskConfig(
        CHOICE,
        read_with(prepared(hellaswag)),
        ("Rowan/hellaswag", "default", "validation"),
        about="the most plausible ending",
    ),
    "piqa": TaskConfig(CHOICE, piqa, ("baber/piqa", "default", "validation"), about="physical common sense"),
    "copa": TaskConfig(
        CHOICE,
        read_with(prepared(copa)),
        ("aps/super_glue", "copa", "validation"),
        metric="raw",
        about="cause or effect",
    ),
    "winogrande": TaskConfig(
        CHOICE,
        read_with(winogrande),
        ("allenai/winogrande", "winogrande_xl", "validation"),
        metric="raw",
        about="pronoun resolution with common sense",
    ),
    "lambada": TaskConfig(
        LAST_WORD, lambada, ("EleutherAI/lambada_openai", "default", "test"), about="the last word of a passage"
    ),
    "gsm8k": TaskConfig(
        GENERATION,
        hub=("openai/gsm8k", "main", "test"),
        options={"grader": "numeric", "prompt": "Question: {question}\nAnswer:"},
        sampling=SamplingSettings(temperature=0.0, max_tokens=320, stop=("Question:",)),
        about="grade-school math word problems",
    ),
    "ifeval": TaskConfig(
        GENERATION,
        read_with(ifeval),
        ("google/IFEval", "default", "train"),
        options={"grader": "instructions", "chat": True},
        sampling=SamplingSettings(temperature=0.0, max_tokens=1024),
        about="instructions that a program can check",
    ),
    "bfcl": TaskConfig(
        TOOL_CALLS,
        bfcl_rows,
        options={"compare": "loose"},
        about="which tool to call, and with which arguments",
    ),
}
