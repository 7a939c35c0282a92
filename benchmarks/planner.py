"""What plans promise, and how runs turn out: time, memory, bits per byte, and whether a random search finds better.

    python benchmarks/planner.py run --data FOLDER [--minutes 1 5 15] [--texts shakespeare stories python]
    python benchmarks/planner.py search --data FOLDER --shapes 20 --minutes 1 --texts stories --seed 1

FOLDER holds `shakespeare/input.txt` and `stories/train.jsonl`; the third text is the Python standard library. Every
training is the command `tinyslm train TEXT ...` in a process of its own: its wall time, from its start to its end, and
its peak memory are those of the process. `run` gives it `--minutes` alone, so that it plans. `search` gives it shapes
and settings drawn at random (`random_shapes.py`) and the same minutes.

To compare a plan with a search, all are scored once more by the same code on the same documents, as what a run itself
scores depends on its time. Each training is stored in `planner_runs.json` (without bf16: `planner_runs_fp32.json`) as
soon as it is done, and never repeated; one that failed is stored as failed (a drawn model that is too large may).
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Nothing large is imported here: a process counts the memory of the one that started it as its own until it has more.
from harness import HERE, TINYSLM, Finished, finish, in_process, machine, parser
from tinyslm.data.standard_library import standard_library
from tinyslm.hardware.machine import BF16_FEATURES, examine_machine

TEXTS = {"shakespeare": "shakespeare/input.txt", "stories": "stories/train.jsonl", "python": ""}
SCORED_BYTES = 300_000
"""About so much validation text is scored to compare runs."""
INTERRUPTED = {code for one in (signal.SIGINT, signal.SIGTERM) for code in (-one, 128 + one)}
Row = dict[str, Any]


def main() -> None:
    options = parser(__doc__)
    verbs = options.add_subparsers(required=True)
    for verb, minutes, texts in ((run, [1, 5, 15], [*TEXTS]), (search, [1], ["stories"])):
        one = verbs.add_parser(verb.__name__)
        one.add_argument("--data", required=True, type=Path)
        one.add_argument("--minutes", type=float, nargs="+", default=minutes)
        one.add_argument("--texts", nargs="+", choices=[*TEXTS], default=texts)
        one.add_argument("--runs", type=Path, default=HERE / runs_file(), help="where finished runs are stored")
        one.set_defaults(work=verb)
    one.add_argument("--shapes", type=int, default=20)
    one.add_argument("--seed", type=int, default=1, help="of the drawing")
    arguments = options.parse_args()
    arguments.work(arguments)


def runs_file() -> str:
    fast = BF16_FEATURES.intersection(examine_machine().features)
    return "planner_runs.json" if fast else "planner_runs_fp32.json"


def run(arguments: argparse.Namespace) -> None:
    """Plan and train at each budget, the shorter ones first."""
    finished = Finished(arguments.runs)
    for text, minutes in wanted(arguments):
        row = finished.once("runs", name(text, minutes), lambda t=text, m=minutes: train(arguments.data, t, m, []))
        print(name(text, minutes), row if "failed" in row else {**row, **missed(row)}, flush=True)
    rows = finished.rows["runs"].values()
    finish({"runs": [row if "failed" in row else {**row, **missed(row)} for row in rows]})


def search(arguments: argparse.Namespace) -> None:
    """Train what is drawn at random at each budget."""
    finished = Finished(arguments.runs)
    for text, minutes in wanted(arguments):
        key = f"{name(text, minutes)}, seed {arguments.seed}"
        wanted_shapes = (paths(arguments.data, text), minutes, arguments.shapes, arguments.seed)
        drawn = finished.once("drawn", key, lambda w=wanted_shapes: {"settings": in_process("random_shapes.draw", *w)})
        for number, one in enumerate(drawn["settings"][: arguments.shapes], 1):
            options = [part for key, value in one.items() for part in (f"--{key}", str(value))]
            row = finished.once(
                "searched",
                f"{key}, number {number}",
                lambda t=text, m=minutes, o=options: train(arguments.data, t, m, o),
            )
            print(f"{key}, {number} of {arguments.shapes}:", row, flush=True)
    finish({"searches": list(searches(finished.rows))})


def wanted(arguments: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Texts and budgets."""
    for minutes in sorted(arguments.minutes):
        for text in arguments.texts:
            yield text, minutes


def name(text: str, minutes: float) -> str:
    return f"{text}, {minutes:g} min"


def paths(data: Path, text: str) -> list[str]:
    """Where a text lies."""
    return [str(data / TEXTS[text])] if TEXTS[text] else standard_library()


def train(data: Path, text: str, minutes: float, options: Sequence[str]) -> Row:
    """One training by the command line, its process measured, its model scored."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [*TINYSLM, "train", *paths(data, text), "--minutes", f"{minutes:g}", *options, "--out", str(out)]
        printed, problem, seconds, peak = measured([*command, "--json"])
        row = {"text": text, "date": datetime.now(UTC).date().isoformat(), "seconds": round(seconds, 2)}
        row |= {"machine": machine(), "peak_bytes": peak}
        if problem:
            return {**row, "minutes": minutes, "failed": problem}
        return {**row, **outcome(json.loads(printed)["result"], out), **in_process("planner.score", str(out))}


def measured(command: Sequence[str]) -> tuple[str, str, float, int]:
    """What a process prints, its last complaint if it failed, its seconds, and its largest memory in bytes."""
    with tempfile.TemporaryFile("w+") as errors:
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        with process.stdout as pipe:
            printed = pipe.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode in INTERRUPTED:
            sys.exit("The training was interrupted and is not stored. Run this again to resume.")
        errors.seek(0)
        message = errors.read().strip()
    problem = message[-500:] or f"ended with {process.returncode}" if process.returncode else ""
    return printed, problem, seconds, 1024 * usage.ru_maxrss  # Linux counts it in KiB


def outcome(result: Row, out: Path) -> Row:
    """A run's score, its shape, and, where it was planned, what was expected."""
    config = json.loads((out / "config.json").read_text())
    model, optimizer, train = config["model"], config["optimizer"], config["train"]
    row = {key: result[key] for key in ("bits_per_byte", "low", "high", "parameters")}
    row |= {"minutes": train["minutes"], "tokens": result["training_tokens"]}
    row["shape"] = {key: model[key] for key in ("dim", "depth", "context", "vocab_size", "dropout")}
    row["shape"] |= {"batch": train["batch"], "muon_lr": optimizer["muon_lr"], "lr": optimizer["lr"]}
    if (out / "plan.toml").is_file():
        row["expected"] = tomllib.loads((out / "plan.toml").read_text())["expectation"]
    return row


def score(folder: str) -> Row:
    """A run's model on every n-th validation document, in fp32; which ones does not depend on the vocabulary."""
    from tinyslm import Shards, load_model
    from tinyslm.evaluation.loss import document_losses
    from tinyslm.training.run_folder import RunFolder

    shards = Shards.open(RunFolder.open(Path(folder)).checked_data())
    train, valid = shards.split("train"), shards.split("valid")
    numbers = range(0, valid.documents, -(-valid.utf8_bytes // SCORED_BYTES))
    documents = ((valid.document(i)[:-1].tolist(), valid.document_bytes(i)) for i in numbers)
    found = document_losses(load_model(Path(folder) / "model"), documents, end_id=shards.tokenizer.eos_id).score()
    names = {"bytes_per_token": train, "held_out_bytes_per_token": valid}
    lengths = {name: round(split.utf8_bytes / split.tokens, 4) for name, split in names.items()}
    return {"compared": found.bits_per_byte, **lengths}


def missed(row: Row) -> Row:
    """What a planned run is off by, as shares of what was promised; bits per byte as a difference."""
    return {
        "time_off": row["seconds"] / (60 * row["minutes"]) - 1,
        "memory_off": row["peak_bytes"] / row["expected"]["memory_bytes"] - 1,
        "bits_off": row["bits_per_byte"] - row["expected"]["bits_per_byte"],
    }


def searches(stored: dict[str, dict[str, Row]]) -> Iterator[Row]:
    """What was drawn and trained at each budget, the best first, with the plan of the same budget."""
    budgets: dict[tuple[str, float], list[Row]] = {}
    for row in stored.get("searched", {}).values():
        budgets.setdefault((row["text"], row["minutes"]), []).append(row)
    for (text, minutes), rows in budgets.items():
        planned = stored.get("runs", {}).get(name(text, minutes), {}).get("compared")
        trained = sorted((row for row in rows if "failed" not in row), key=lambda row: row["compared"])
        best = trained[0]["compared"] if trained else None
        keys = ("compared", "parameters", "shape", "tokens", "seconds")
        yield {
            **{"text": text, "minutes": minutes, "planned": planned, "best": best},
            "ratio": planned / best if planned and best else None,
            "failed": len(rows) - len(trained),
            "rows": [{key: row[key] for key in keys} for row in trained],
        }


if __name__ == "__main__":
    main()
