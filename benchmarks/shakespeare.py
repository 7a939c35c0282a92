"""Shakespeare characters: the loss that `tinyslm train` reaches in two minutes, and in eight seconds.

    python benchmarks/shakespeare.py --data FOLDER_WITH_input.txt [--goals minutes seconds] [--seeds 1 2 3]

The first 90 % of the text train, the last 10 % validate, in windows that do not overlap, of the recipe's context, every
character of which is predicted. The two minutes are those of the whole command, from its start to its end: Python,
preparing the text, compiling, measuring the pace, updates, validations, checkpoints, the final score and the report.
The eight seconds are those of training, with validations and checkpoints, as the peer's are; the whole command's are
kept too. The last line printed is the result as JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tinyslm import load_model
from tinyslm.evaluation.loss import mean_loss
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.validation import even_windows

RECIPES = Path(__file__).parent.parent / "recipes"
RESERVE = 3.0
"""Seconds that are left when a run is told its time: on a busy machine the final score takes longer than planned."""


class Goal(NamedTuple):
    """A loss to reach in so many seconds: by which recipe, of the whole command or of its training alone, and where the
    loss comes from."""

    recipe: str
    seconds: float
    whole: bool
    loss: float
    source: str


GOALS = {
    "minutes": Goal(
        "shakespeare-characters",
        120,
        True,
        1.4697,
        "nanoGPT's larger model (10.65M), 3 minutes of an A100, from its README",
    ),
    "seconds": Goal("shakespeare-seconds", 8, False, 1.886, "nanoGPT's recipe for CPUs, 80 s of two such cores"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--goals", nargs="+", choices=list(GOALS), default=list(GOALS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    text = (arguments.data / "input.txt").read_text(encoding="utf-8")
    border = len(text) * 9 // 10
    results = {}
    for name in arguments.goals:
        runs = []
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as work:
                runs.append(one_run(Path(work), text[:border], text[border:], GOALS[name], seed))
            print(name, runs[-1], flush=True)
        results[name] = {**GOALS[name]._asdict(), "runs": runs}
    print(json.dumps(results))


def one_run(work: Path, train: str, valid: str, goal: Goal, seed: int) -> dict[str, Any]:
    """Train by the command, then judge its model folder."""
    (work / "train.txt").write_text(train, encoding="utf-8")
    (work / "valid.txt").write_text(valid, encoding="utf-8")
    command = [str(Path(sys.executable).with_name("tinyslm")), "train", "train.txt", "--out", "run", "--json"]
    command += ["--config", str(RECIPES / f"{goal.recipe}.toml"), "--data.valid_paths", "valid.txt"]
    command += ["--train.seed", str(seed)]
    command += ["--minutes", str((goal.seconds - RESERVE) / 60)] if goal.whole else []
    begun = time.monotonic()
    subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - begun
    folder = RunFolder.open(work / "run")
    result = json.loads(folder.result_file.read_text())
    model = load_model(folder.model)
    windows = even_windows(folder.open_shards().split("valid"), model.config.context, 10**9)
    return {
        "loss": mean_loss(model, windows, torch.float32),
        "seconds": round(seconds, 1),
        "training_seconds": result["training_seconds"],
        "training_tokens": result["training_tokens"],
        "parameters": model.config.parameters,
        "dim": model.config.dim,
        "depth": model.config.depth,
        "context": model.config.context,
        "windows": len(windows),
    }


if __name__ == "__main__":
    main()
