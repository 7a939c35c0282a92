"""A pack taught to a model: scores on its tasks before and after, by its baseline, constrained, and in 4 bits.

    python benchmarks/pack.py PACK (--model FOLDER | --params 5M) [--minutes 20 | --steps N] [--limit 0]
        [--then rejection --then-minutes 10] [--curve] [--out FOLDER]

The first task of a pack with hand-written requests is the one that counts; of its items, the row keeps some answers of
the taught model, right and wrong. --then continues with that method and the pack's grader on prompts of the rows to
learn from. --curve also scores the weights at a quarter, half and three quarters of the run. Scores that lie in --out
from before are not taken again. Differences are paired by item, with 95 % bootstrap intervals. docs/packs-figures.md is
written from the rows (`benchmarks/all.py`).
"""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinyslm.packs
from harness import TINYSLM, finish, parser
from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.intervals import paired_difference
from tinyslm.evaluation.tasks.loading import load_tasks
from tinyslm.training.unfinished import best_so_far

PROMPTS = 2_000
"""Prompts for `--then`."""
PARTS = (0.25, 0.5, 0.75)
"""Of the updates, after which `--curve` keeps the weights."""
POLL_SECONDS = 5.0
SAMPLES, LONGEST = 4, 1_200
"""Right and wrong answers that are kept of each, and the most characters of a text in them."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("pack", help="excel, prices, security or logic")
    options.add_argument("--model", type=Path, help="a chat model, such as SmolLM2-135M-Instruct")
    options.add_argument("--params", help="a new model of about so many parameters, instead of --model")
    options.add_argument("--minutes", type=float, default=20.0)
    options.add_argument("--steps", type=int, help="updates, instead of minutes")
    options.add_argument("--limit", type=int, default=0, help="items of each task; 0: all")
    options.add_argument("--then", choices=["rejection", "grpo"], help="continue with this method")
    options.add_argument("--then-minutes", type=float, default=10.0)
    options.add_argument("--curve", action="store_true", help="score the weights on the way, too")
    options.add_argument("--out", type=Path, help="a folder for the runs; by default a temporary one")
    given = options.parse_args()
    if (given.model is None) == (given.params is None):
        options.error("give either --model or --params")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        finish(measured(given, folder))


def measured(given: Any, folder: Path) -> dict[str, Any]:
    """Teach the pack, and score everything."""
    run, pack = folder / "run", given.pack
    found = {"baseline": scores(given, folder, "baseline", "--baseline")}
    if given.model:
        found["base"] = scores(given, folder, "base", given.model)
    learner = ("--model", given.model) if given.model else ("--params", given.params)
    length = ("--train.steps", given.steps) if given.steps else ("--minutes", given.minutes)
    began = time.monotonic()
    teaching = subprocess.Popen(words("packs", "train", pack, *learner, *length, "--out", run))
    kept = snapshots(teaching, run, folder) if given.curve else {}
    if teaching.wait():
        raise SystemExit("teaching failed")
    minutes = (time.monotonic() - began) / 60
    found["taught"] = scores(given, folder, "taught", run)
    curve = [(step, scores(given, folder, f"step {step}", place)) for step, place in sorted(kept.items())]
    found["taught, constrained"] = scores(given, folder, "constrained", run, "--constrained")
    tinyslm("quantize", run, "--out", folder / "4bit")
    found["taught, 4 bits"] = scores(given, folder, "4bit", folder / "4bit")
    if given.then:
        tinyslm("packs", "data", pack, "--rows", PROMPTS, "--seed", 2, "--out", folder / "prompts")
        rewarded = ["--method", given.then, "--grader", pack, "--minutes", given.then_minutes]
        tinyslm("finetune", run, folder / "prompts" / "train.jsonl", *rewarded, "--out", folder / given.then)
        found[given.then] = scores(given, folder, given.then, folder / given.then)
    tasks = {task: compared({name: one[task] for name, one in found.items()}) for task in found["taught"]}
    for task, columns in tasks.items():
        print(task, columns, flush=True)
    result = json.loads((run / "result.json").read_text())
    made = {name: result[name] for name in ("step", "training_tokens", "parameters")}
    before = [(0, found["base"])] if given.model else []
    points = learning_curve(run, [*before, *curve, (result["step"], found["taught"])])
    samples = sampled(pack, found["taught"])
    row = {"pack": pack, "minutes": round(minutes, 1), "new": given.model is None, **made, "tasks": tasks}
    return {**row, "curve": points, "samples": samples}


def learning_curve(run: Path, scored: Sequence[tuple[int, dict[str, Any]]]) -> list[dict[str, float]]:
    """The scores after some updates of a run, by task, with the minutes and examples of learning until then."""
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    began = next(one["seconds"] for one in events if one["event"] == "start")
    learned = json.loads((run / "data" / "manifest.json").read_text())["splits"]["train"]
    points = []
    for step, by_task in scored:
        last = max((one for one in events if one["event"] == "step" and one["step"] <= step), key=at, default=None)
        minutes, tokens = ((last["seconds"] - began) / 60, last["tokens"]) if last else (0.0, 0)
        examples = round(tokens * learned["examples"] / learned["tokens"])
        values = {task: one["value"] for task, one in by_task.items()}
        points.append({"step": step, "minutes": round(minutes, 2), "examples": examples, **values})
    return points


def at(event: dict[str, Any]) -> int:
    step: int = event["step"]
    return step


def sampled(pack: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Answers to hand-written requests, right and wrong ones: what was asked, answered and expected, and the score."""
    if (name := f"{pack}_requests") not in found:
        return []
    score, (task,) = found[name], load_tasks(name)
    asked = {example.id: example for example in task.examples}
    items = list(zip(score["ids"], score["outcomes"], score["answers"], strict=True))
    chosen = [spread_over([one for one in items if (one[1]["score"] == 1) == right]) for right in (True, False)]
    return [
        {
            "right": outcome["score"] == 1,
            "asked": shortened(asked[place].asked[-1]["content"]),
            "expected": shortened(asked[place].row["answer"]),
            "answered": shortened(answer),
            "outcome": {part: round(value, 3) for part, value in outcome.items()},
        }
        for part in chosen
        for place, outcome, answer in part
    ]


def spread_over(items: Sequence[Any]) -> list[Any]:
    """At most `SAMPLES` items, spread over all of them."""
    count = min(SAMPLES, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def shortened(said: Any) -> str:
    text = said if isinstance(said, str) else " or ".join(map(str, said))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def snapshots(teaching: subprocess.Popen[bytes], run: Path, folder: Path) -> dict[int, Path]:
    """The best weights when a quarter, half and three quarters of the updates were made, by their step."""
    kept: dict[int, Path] = {}
    due = list(PARTS)
    while teaching.poll() is None and due:
        time.sleep(POLL_SECONDS)
        if part_done(run) >= due[0]:
            try:
                with best_so_far(run) as (model, step):
                    kept[step] = folder / f"step-{step}"
                    shutil.copytree(model, kept[step], dirs_exist_ok=True)
            except TinyslmError:
                continue  # not validated yet
            due.pop(0)
    return kept


def part_done(run: Path) -> float:
    """The share of the updates that a run has made."""
    events = run / "metrics.jsonl"
    found = list(map(json.loads, events.read_text().splitlines())) if events.is_file() else []
    planned = [one["steps"] for one in found if one["event"] == "start"]
    return max((one["step"] for one in found if one["event"] == "step"), default=0) / planned[-1] if planned else 0.0


def words(*given: Any) -> list[str]:
    return list(map(str, [*TINYSLM, *given]))


def tinyslm(*given: Any) -> None:
    """Run a command of tinyslm."""
    subprocess.run(words(*given), check=True)


def scores(given: Any, folder: Path, name: str, *of: Any) -> dict[str, Any]:
    """The scores on the pack's tasks, with the outcome of each item, by task."""
    out = folder / f"{name}.json"
    dtype = () if name == "baseline" else ("--dtype", "bf16")
    if not out.is_file():
        tinyslm("packs", "evaluate", given.pack, *of, "--limit", given.limit, *dtype, "--out", out)
    return {score["task"]: score for score in json.loads(out.read_text())["scores"]}


def compared(found: dict[str, Any]) -> dict[str, Any]:
    """The scores with their intervals, and how each differs from that of the taught model."""
    values = {name: np.array([one[score["metric"]] for one in score["outcomes"]]) for name, score in found.items()}
    taught = values["taught"]
    return {
        name: {
            "score": [round(float(score[part]), 4) for part in ("value", "low", "high")],
            "to taught": shown(paired_difference(values[name], taught)),
        }
        for name, score in found.items()
    }


def shown(estimate: Any) -> list[float]:
    """A value and its interval."""
    return [round(float(x), 4) for x in (estimate.value, estimate.low, estimate.high)]


if __name__ == "__main__":
    main()
