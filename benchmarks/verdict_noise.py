"""How much the verdict on the same fine-tuning differs between seeds: the noise floor that ships with tinyslm.

    python benchmarks/verdict_noise.py --model FOLDER --data ROWS.jsonl [--seeds 3] [--steps 40] [--rows 600] [--write]

A seed decides the order of the examples and the initial adapters. `--write` replaces the shipped noise floor
(`src/tinyslm/evaluation/noise_floor.json`): the standard deviation of the relative change in bits per byte of general
text. `--replay SHARE` measures the same with general text among the examples.
"""

import json
from itertools import islice
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import tinyslm
from harness import finish, parser
from tinyslm.evaluation.verdict import FLOOR_FILE


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="a chat model")
    options.add_argument("--data", type=Path, required=True, help="rows to fine-tune on")
    options.add_argument("--rows", type=int, default=600)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--batch", type=int, default=2)
    options.add_argument("--learning-rate", type=float, default=0.001)
    options.add_argument("--replay", type=float, default=0.0)
    options.add_argument("--write", action="store_true", help="replace the noise floor that ships with tinyslm")
    given = options.parse_args()
    train = {"steps": given.steps, "batch": given.batch, "score_tokens": 10_000, "validate_every": given.steps}
    train |= {"sample_every": 10 * given.steps, "checkpoint_minutes": 1000.0}
    verdicts: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder, given.data.open(encoding="utf-8") as file:
        rows = Path(folder) / "rows.jsonl"
        rows.write_text("".join(islice(file, given.rows)))
        for seed in range(given.seeds):
            settings = {"train": {**train, "seed": seed}, "replay": {"share": given.replay}}
            settings["optimizer"] = {"lr": given.learning_rate}
            result = tinyslm.finetune(given.model, [rows], Path(folder) / f"run{seed}", settings=settings)
            verdicts.append(result["verdict"])
            print(json.dumps(result["verdict"]), flush=True)
    general = [one["general"]["change"] for one in verdicts]
    loss = [one["loss"]["change"] for one in verdicts]
    floor = {
        "general": round(stdev(general), 5),
        "source": f"{given.seeds} seeds of {given.steps} updates of {given.batch} rows, LoRA of {given.model.name} on "
        f"{given.rows} questions with answers: python benchmarks/verdict_noise.py",
    }
    if given.write:
        FLOOR_FILE.write_text(json.dumps(floor, indent=2) + "\n")
    means = {"general_mean": mean(general), "loss_mean": mean(loss), "loss_deviation": stdev(loss)}
    finish({**floor, "general_changes": general, "loss_changes": loss, **means})


if __name__ == "__main__":
    main()
