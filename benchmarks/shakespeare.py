"""Shakespeare characters: the loss that `tinyslm train` reaches in two minutes, and in eight seconds.

    python benchmarks/shakespeare.py --data FOLDER_WITH_input.txt [--goals minutes seconds] [--seeds 1 2 3]

The first 90 % of the text train, the last 10 % validate, in windows that do not overlap, of the recipe's context, every
character of which is predicted. The two minutes are those of the whole command, from its start to its end: Python,
preparing the text, compiling, measuring the pace, updates, validations, checkpoints, the final score and the report.
The eight seconds are those of training, with validations and checkpoints, as the peer's are; the whole command's time
is given too.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from harness import HERE, TINYSLM, finish, parser
from tinyslm import Shards, load_model
from tinyslm.evaluation.loss import mean_loss
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.validation import even_windows

RESERVE = 3.0
"""Seconds less that a run is given: on a busy machine the final score takes longer than planned."""


class Goal(NamedTuple):
    """A loss to reach in some seconds. whole: they are those of the whole command, not of its training alone."""

    recipe: str
    seconds: float
    whole: bool
    loss: float
    source: str


LARGER = "nanoGPT's larger model (10.65M), 3 minutes of an A100, from its README"
GOALS = {
    "minutes": Goal("shakespeare-characters", 120, True, 1.4697, LARGER),
    "seconds": Goal("shakespeare-seconds", 8, False, 1.886, "nanoGPT's recipe for CPUs, 80 s of two such cores"),
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--data", required=True, type=Path)
    options.add_argument("--goals", nargs="+", choices=list(GOALS), default=list(GOALS))
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = options.parse_args()
    text = (arguments.data / "input.txt").read_text(encoding="utf-8")
    results = {}
    for name in arguments.goals:
        runs = []
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as work:
                runs.append(one_run(Path(work), text, GOALS[name], seed))
            print(name, runs[-1], flush=True)
        results[name] = {**GOALS[name]._asdict(), "runs": runs}
    finish(results)


def one_run(work: Path, text: str, goal: Goal, seed: int) -> dict[str, Any]:
    """Train by the command, then score its model folder."""
    border = len(text) * 9 // 10
    (work / "train.txt").write_text(text[:border], encoding="utf-8")
    (work / "valid.txt").write_text(text[border:], encoding="utf-8")
    command = [*TINYSLM, "train", "train.txt", "--out", "run", "--json", "--data.valid_paths", "valid.txt"]
    command += ["--config", str(HERE.parent / "recipes" / f"{goal.recipe}.toml"), "--train.seed", str(seed)]
    command += ["--minutes", str((goal.seconds - RESERVE) / 60)] if goal.whole else []
    begun = time.monotonic()
    subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - begun
    folder = RunFolder.open(work / "run")
    result = json.loads(folder.result_file.read_text())
    model = load_model(folder.model)
    windows = even_windows(Shards.open(folder.checked_data()).split("valid"), model.config.context, 10**9)
    return {
        "loss": mean_loss(model, windows, torch.float32),
        "seconds": round(seconds, 1),
        **{name: result[name] for name in ("training_seconds", "training_tokens")},
        **{name: getattr(model.config, name) for name in ("parameters", "dim", "depth", "context")},
        "windows": len(windows),
    }


if __name__ == "__main__":
    main()
