"""Shakespeare characters: validation loss after a few minutes with the default architecture.

    python benchmarks/shakespeare.py --data FOLDER_WITH_input.txt [--minutes 6]

The first 90 % of the text train, the last 10 % validate, in windows of 256 characters that do not overlap, every
character of which is predicted. `recipes/shakespeare-characters.toml` holds the settings. The minutes are those of the
whole training: measuring the pace, updates, validations and checkpoints. The last line printed is the result as JSON.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from tinyslm import load_model
from tinyslm.core.config import load_config
from tinyslm.evaluation.loss import mean_loss
from tinyslm.training.config import RunConfig
from tinyslm.training.pipeline import finish, start
from tinyslm.training.validation import even_windows

RECIPE = Path(__file__).parent.parent / "recipes" / "shakespeare-characters.toml"
TARGET = 1.4697
"""nanoGPT's validation loss for its larger model (10.65M), after three minutes on an A100, from its README."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    text = (arguments.data / "input.txt").read_text(encoding="utf-8")
    border = len(text) * 9 // 10
    results = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as name:
            results.append(one_run(Path(name), text[:border], text[border:], arguments.minutes, seed))
        print(results[-1])
    print(json.dumps({"target": TARGET, "minutes": arguments.minutes, "runs": results}))


def one_run(work: Path, train: str, valid: str, minutes: float, seed: int) -> dict:
    (work / "train.txt").write_text(train, encoding="utf-8")
    (work / "valid.txt").write_text(valid, encoding="utf-8")
    overrides = {
        "data": {"valid_paths": (str(work / "valid.txt"),)},
        "train": {"minutes": minutes, "steps": 0, "seed": seed},
    }
    config = load_config(RunConfig, RECIPE, overrides)
    begun = time.monotonic()
    run = start([work / "train.txt"], work / "run", config=config, progress=lambda *_: None)
    print(f"preparing and measuring the pace: {time.monotonic() - begun:.1f} s; {run.steps} steps")
    finish(run, lambda event: print(event) if event["event"] == "validation" else None)
    windows = even_windows(run.shards.split("valid"), 256, 10**9)
    loss = mean_loss(load_model(work / "run" / "model"), windows, torch.float32)
    return {
        "loss": loss,
        "seconds": time.monotonic() - begun,
        "training_seconds": run.progress.seconds,
        "steps": run.steps,
        "parameters": run.config.model.parameters,
        "kv_heads": run.config.model.kv_heads,
        "windows": len(windows),
    }


if __name__ == "__main__":
    main()
