"""A pack taught to a model: scores on its tasks before and after, by its baseline, constrained, and in 4 bits.

    python benchmarks/pack.py PACK --model FOLDER [--minutes 20] [--limit 0] [--then rejection --then-minutes 10]
        [--out FOLDER]

The first task of a pack with hand-written requests is the one that counts. --then continues with that method and the
pack's grader on prompts of the rows to learn from. Differences are paired by item, with 95 % bootstrap intervals.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from harness import TINYSLM, finish, parser
from tinyslm.evaluation.intervals import paired_difference

PROMPTS = 2_000
"""Prompts for `--then`."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("pack", help="excel, prices, security or logic")
    options.add_argument("--model", type=Path, required=True, help="a chat model, such as SmolLM2-135M-Instruct")
    options.add_argument("--minutes", type=float, default=20.0)
    options.add_argument("--limit", type=int, default=0, help="items of each task; 0: all")
    options.add_argument("--then", choices=["rejection", "grpo"], help="continue with this method")
    options.add_argument("--then-minutes", type=float, default=10.0)
    options.add_argument("--out", type=Path, help="a folder for the runs; by default a temporary one")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run, pack = folder / "sft", given.pack
        found = {"baseline": scores(given, folder, "baseline", "--baseline")}
        found["base"] = scores(given, folder, "base", given.model)
        tinyslm("packs", "train", pack, "--model", given.model, "--minutes", given.minutes, "--out", run)
        found["taught"] = scores(given, folder, "taught", run)
        found["taught, constrained"] = scores(given, folder, "constrained", run, "--constrained")
        tinyslm("quantize", run, "--out", folder / "sft-4bit")
        found["taught, 4 bits"] = scores(given, folder, "4bit", folder / "sft-4bit")
        if given.then:
            tinyslm("packs", "data", pack, "--rows", PROMPTS, "--seed", 2, "--out", folder / "prompts")
            rewarded = ["--method", given.then, "--grader", pack, "--minutes", given.then_minutes]
            tinyslm("finetune", run, folder / "prompts" / "train.jsonl", *rewarded, "--out", folder / given.then)
            found[given.then] = scores(given, folder, given.then, folder / given.then)
    tasks = {task: compared({name: one[task] for name, one in found.items()}) for task in found["base"]}
    for task, columns in tasks.items():
        print(task, columns, flush=True)
    finish({"pack": pack, "minutes": given.minutes, "tasks": tasks})


def tinyslm(*words: Any) -> None:
    """Run a command of tinyslm."""
    subprocess.run(list(map(str, [*TINYSLM, *words])), check=True)


def scores(given: Any, folder: Path, name: str, *words: Any) -> dict[str, Any]:
    """The scores on the pack's tasks, with the outcome of each item, by task."""
    out = folder / f"{name}.json"
    dtype = () if name == "baseline" else ("--dtype", "bf16")
    tinyslm("packs", "evaluate", given.pack, *words, "--limit", given.limit, *dtype, "--out", out)
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
