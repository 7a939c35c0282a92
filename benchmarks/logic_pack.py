"""The pack `logic` taught to a model: scores of each skill before and after, by a run that is killed once and resumes.

    python benchmarks/logic_pack.py --model FOLDER [--minutes 20] [--limit 0] [--rows N] [--import FILE ...] [--out RUN]

The model is scored on the pack's tasks, taught with `tinyslm packs train`, killed (SIGKILL) at half of the time, after
a checkpoint, resumed with `tinyslm train --resume`, and scored again. Differences are paired by item, with 95 %
bootstrap intervals. Test rows use templates, names and combinations that are not learned.
"""

import json
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness import TINYSLM, finish, parser
from tinyslm.evaluation.intervals import paired_difference


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="a chat model, such as SmolLM2-135M-Instruct")
    options.add_argument("--minutes", type=float, default=20.0)
    options.add_argument("--limit", type=int, default=0, help="items of each task; 0: all 200")
    options.add_argument("--rows", type=int, help="generated rows to learn from")
    options.add_argument("--import", dest="files", nargs="*", default=[], help="files of published rows to learn too")
    options.add_argument("--out", type=Path, help="the run folder; by default a temporary one")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, began = given.out or Path(folder) / "run", time.monotonic()
        before = scores(given.model, given.limit, Path(folder) / "before.json")
        evaluated = time.monotonic() - began
        killed_after = teach(given, run)
        taught = time.monotonic() - began - evaluated
        after = scores(run, given.limit, Path(folder) / "after.json")
    result = {task: compared(before[task], after[task]) for task in before}
    for task, found in result.items():
        print(f"{task:20} {found['before']} -> {found['after']}, gain {found['gain']}", flush=True)
    times = {"teaching": taught, "killed_after": killed_after, "evaluation": evaluated}
    finish(
        {"minutes": given.minutes, "tasks": result, "seconds": {name: round(value) for name, value in times.items()}}
    )


def scores(model: Path, limit: int, out: Path) -> dict[str, dict[str, Any]]:
    """The scores of a model on the pack's tasks, with the outcome of each item."""
    subprocess.run([*TINYSLM, "packs", "evaluate", "logic", model, "--limit", str(limit), "--out", out], check=True)
    return {score["task"]: score for score in json.loads(out.read_text())["scores"]}


def teach(given: Any, run: Path) -> float:
    """Train, kill at half of the time, and resume; returns the seconds until the kill."""
    command = [*TINYSLM, "packs", "train", "logic", "--model", given.model, "--out", run]
    command += ["--minutes", str(given.minutes), "--train.checkpoint_minutes", str(min(1.0, given.minutes / 20))]
    command += ["--rows", str(given.rows)] if given.rows else []
    for file in given.files:
        command += ["--import", file]
    began = time.monotonic()
    process = subprocess.Popen(list(map(str, command)))
    while process.poll() is None:
        time.sleep(0.5)
        saved = any((run / "checkpoints").glob("*")) if (run / "checkpoints").is_dir() else False
        if saved and time.monotonic() - began > 30 * given.minutes:
            process.send_signal(signal.SIGKILL)
            process.wait()
            seconds = time.monotonic() - began
            subprocess.run([*TINYSLM, "train", "--resume", str(run)], check=True)
            return seconds
    raise SystemExit("The run ended before it could be killed: give it more minutes.")


def compared(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Both scores and their difference, each with its interval; and the chance level."""
    metric = before["metric"]
    values = [np.array([one[metric] for one in score["outcomes"]]) for score in (before, after)]
    gain = paired_difference(values[1], values[0])
    shown = {name: [round(score[key], 3) for key in ("value", "low", "high")]
             for name, score in (("before", before), ("after", after))}  # fmt: skip
    return {**shown, "gain": [round(x, 3) for x in (gain.value, gain.low, gain.high)], "chance": before["chance"]}


if __name__ == "__main__":
    main()
