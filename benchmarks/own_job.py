"""A job taught from examples: scores on held-out rows before and after, and of the nearest training row's answer.

    python benchmarks/own_job.py --model FOLDER --train FILE --valid FILE --grader NAME [--minutes 20] [--limit 500]
        [--pack logic] [--then rejection --then-minutes 10] [--out FOLDER]

The nearest training row, found by BM25 over the words of the prompts, is what a program without a model would answer.
--then continues the run with that method and the same grader, on prompts of the training rows that it takes at random.
--pack: rows as this pack converts them. Differences are paired by row, with 95 % bootstrap intervals.
"""

import json
import random
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from harness import TINYSLM, finish, parser
from tinyslm.data.conversations import read_conversations
from tinyslm.evaluation.graders import find_grader
from tinyslm.evaluation.intervals import mean_estimate, paired_difference

PROMPTS = 2_000
"""Prompts for `--then`."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="a chat model, such as SmolLM2-135M-Instruct")
    options.add_argument("--train", type=Path, required=True)
    options.add_argument("--valid", type=Path, required=True)
    options.add_argument("--grader", required=True)
    options.add_argument("--minutes", type=float, default=20.0)
    options.add_argument("--limit", type=int, default=500, help="held-out rows to answer, spread evenly; 0: all")
    options.add_argument("--pack", help="convert the rows as this pack does")
    options.add_argument("--then", choices=["rejection", "grpo"], help="continue with this method")
    options.add_argument("--then-minutes", type=float, default=10.0)
    options.add_argument("--out", type=Path, help="a folder for the runs; by default a temporary one")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        train, valid = (converted(file, given.pack) for file in (given.train, given.valid))
        step = max(1, len(valid) // given.limit) if given.limit else 1
        valid = valid[::step][: given.limit or None]
        task = write_task(folder, train, valid, given.grader)
        found = {"nearest row": nearest(train, valid, given.grader), "base": scores(given.model, task, folder)}
        teach(given.model, folder / "sft", given.minutes, folder / "train.jsonl")
        found["sft"] = scores(folder / "sft", task, folder)
        if given.then:
            rewarded = ["--method", given.then, "--grader", given.grader]
            teach(folder / "sft", folder / given.then, given.then_minutes, folder / "prompts.jsonl", *rewarded)
            found[given.then] = scores(folder / given.then, task, folder)
    about = {"job": f"{given.train.stem.partition('.')[0]}, {given.minutes:g} minutes"}
    finish(
        {
            **about,
            "scores": {name: shown(mean_estimate(values)) for name, values in found.items()},
            "gains": gains(found),
        }
    )


def converted(file: Path, pack: str | None) -> list[dict[str, Any]]:
    """The rows of a file as `messages` that end with the right answer, with the fields that graders read."""
    if pack:
        from tinyslm.packs import PACKS

        rows = (PACKS[pack].convert(json.loads(line)) for line in file.open(encoding="utf-8"))
        return [row for row in rows if row is not None]
    made = []
    for one in read_conversations([file]):
        messages = [dict(message) for message in one.messages]
        made.append({"messages": messages, "answer": messages[-1]["content"]})
    return made


def write_task(folder: Path, train: Sequence[Any], valid: Sequence[Any], grader: str) -> Path:
    """The files to learn from, to sample from and to be evaluated on; returns the task's."""
    asked = [{**row, "messages": row["messages"][:-1]} for row in valid]
    prompts = [
        {**row, "messages": row["messages"][:-1]} for row in random.Random(0).sample(train, min(PROMPTS, len(train)))
    ]
    for name, rows in (("train", train), ("valid", asked), ("prompts", prompts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = folder / "job.toml"
    task.write_text(f'kind = "generation"\ndata = "valid.jsonl"\ngrader = "{grader}"\nmax_tokens = 160\n')
    return task


def nearest(train: Sequence[Any], valid: Sequence[Any], grader: str) -> Any:
    """The scores of the answers to the most similar questions that are learned from."""
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize([question(row) for row in train], show_progress=False), show_progress=False)
    asked = bm25s.tokenize([question(row) for row in valid], show_progress=False)
    places, _ = index.retrieve(asked, k=1, show_progress=False)
    grade = find_grader(grader)
    return np.array(
        [grade(row, train[int(place[0])]["answer"]).score for row, place in zip(valid, places, strict=True)]
    )


def question(row: Any) -> str:
    """What is asked in a row."""
    return "\n".join(message["content"] for message in row["messages"][:-1])


def scores(model: Path, task: Path, folder: Path) -> Any:
    """The scores of a model's answers to the held-out rows."""
    out = folder / f"{model.name}.scores.json"
    subprocess.run([*TINYSLM, "evaluate", model, "--tasks", task, "--dtype", "bf16", "--out", out], check=True)
    (score,) = json.loads(out.read_text())["scores"]
    return np.array([one[score["metric"]] for one in score["outcomes"]])


def teach(model: Path, run: Path, minutes: float, data: Path, *options: Any) -> None:
    """Fine-tune a model with the settings that a user gets."""
    command = [*TINYSLM, "finetune", model, data, "--out", run, "--minutes", minutes, *options]
    subprocess.run(list(map(str, command)), check=True)


def gains(found: dict[str, Any]) -> dict[str, Any]:
    """The difference of each column to the one before it."""
    names = list(found)
    pairs = [(later, earlier) for earlier, later in pairwise(names)] + [("sft", "nearest row")]
    return {f"{one} - {other}": shown(paired_difference(found[one], found[other])) for one, other in pairs}


def shown(estimate: Any) -> list[float]:
    """A value and its interval."""
    return [round(float(x), 4) for x in (estimate.value, estimate.low, estimate.high)]


if __name__ == "__main__":
    main()
