"""What plans promise, and what comes of them: time, memory, bits per byte, and whether a search finds better ones.

    python benchmarks/planner.py run --data FOLDER [--minutes 1 5 15] [--texts shakespeare stories python]
    python benchmarks/planner.py search --data FOLDER --shapes 20 --minutes 1 --texts stories --seed 1
    python benchmarks/planner.py seeds --data FOLDER --minutes 1 --texts shakespeare
    python benchmarks/planner.py report

FOLDER holds `shakespeare/input.txt` and `stories/train.jsonl`; the third text is the Python standard library. Every
training is the command `tinyslm train TEXT ...` in a process of its own: its wall time, from its start to its end, and
its peak memory are those of the process. `run` gives it `--minutes` alone, so that it plans. `search` gives it shapes
and settings drawn at random and the same minutes. `seeds` trains five times by one plan.

To compare a plan with a search, all are scored once more by the same code on the same documents, as what a run itself
scores depends on its time. Each training is kept in `planner_runs.json` as soon as it is done, and never made twice;
one that failed is kept as failed (a drawn model that is too large may). The last line printed is the result as JSON.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Nothing large is imported here: a process counts the memory of the one that started it as its own until it has more.
from tinyslm.core.files import write_json
from tinyslm.data.standard_library import standard_library
from tinyslm.hardware.machine import examine_machine

KEPT = Path(__file__).parent / "planner_runs.json"
TINYSLM = [sys.executable, "-c", "from tinyslm.cli import main; main()"]
TEXTS = {"shakespeare": "shakespeare/input.txt", "stories": "stories/train.jsonl", "python": ""}
SEEDS = 5
SCORED_BYTES = 300_000
"""About so much validation text is scored to compare runs."""
INTERRUPTED = {code for one in (signal.SIGINT, signal.SIGTERM) for code in (-one, 128 + one)}
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for verb, minutes, texts in ((run, [1, 5, 15], [*TEXTS]), (search, [1], ["stories"]), (seeds, [1], ["stories"])):
        one = verbs.add_parser(verb.__name__)
        one.add_argument("--data", required=True, type=Path)
        one.add_argument("--minutes", type=float, nargs="+", default=minutes)
        one.add_argument("--texts", "--text", nargs="+", choices=[*TEXTS], default=texts)
        one.add_argument("--kept", type=Path, default=KEPT, help="where what is done is kept")
        one.set_defaults(work=verb)
        if verb is search:
            one.add_argument("--shapes", type=int, default=20)
            one.add_argument("--seed", type=int, default=1, help="of the drawing")
    told = verbs.add_parser("report")
    told.add_argument("--kept", type=Path, default=KEPT)
    told.set_defaults(work=report)
    scored = verbs.add_parser("score", help="used by the others: score a run's model on the documents to compare by")
    scored.add_argument("folder", type=Path)
    scored.set_defaults(work=score)
    arguments = parser.parse_args()
    arguments.work(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Plan and train at each budget, the shorter ones first."""
    kept = Kept(arguments.kept)
    for text, minutes in wanted(arguments):
        row = kept.once("runs", name(text, minutes), lambda t=text, m=minutes: train(arguments.data, t, m, []))
        print(f"{name(text, minutes)}: {row.get('failed') or told_run(row)}", flush=True)
    report(arguments, "runs")


def search(arguments: argparse.Namespace) -> None:
    """Train what is drawn at random at each budget."""
    kept = Kept(arguments.kept)
    for text, minutes in wanted(arguments):
        key = f"{name(text, minutes)}, seed {arguments.seed}"

        def draw(text: str = text, minutes: float = minutes) -> Row:
            return {"settings": drawn(arguments, text, minutes)}

        settings = kept.once("drawn", key, draw)["settings"]
        for number, one in enumerate(settings[: arguments.shapes], 1):
            options = [part for key, value in one.items() for part in (f"--{key}", str(value))]
            row = kept.once(
                "searched",
                f"{key}, number {number}",
                lambda t=text, m=minutes, o=options: train(arguments.data, t, m, o),
            )
            print(f"{key}, {number} of {arguments.shapes}: {row.get('failed') or told_shape(row)}", flush=True)
    report(arguments, "searches")


def seeds(arguments: argparse.Namespace) -> None:
    """Train five times by one plan."""
    kept = Kept(arguments.kept)
    with tempfile.TemporaryDirectory() as folder:
        for text, minutes in wanted(arguments):
            plan = Path(folder) / f"{text}-{minutes:g}.toml"

            def make(text: str = text, minutes: float = minutes, plan: Path = plan) -> Row:
                command = ["plan", *paths(arguments.data, text), "--minutes", f"{minutes:g}", "--out", str(plan)]
                subprocess.run([*TINYSLM, *command], check=True, stdout=subprocess.DEVNULL)
                return {"plan": plan.read_text(encoding="utf-8")}

            plan.write_text(kept.once("plans", name(text, minutes), make)["plan"], encoding="utf-8")
            for seed in range(1, SEEDS + 1):
                options = ["--plan", str(plan), "--train.seed", str(seed)]
                key = f"{name(text, minutes)}, seed {seed}"
                row = kept.once("seeds", key, lambda t=text, o=options: train(arguments.data, t, None, o))
                print(f"{key}: {row.get('failed') or told_shape(row)}", flush=True)
    report(arguments, "seeds")


class Kept:
    """What is done, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[str, dict[str, Row]] = json.loads(path.read_text()) if path.is_file() else {}

    def once(self, kind: str, key: str, make: Callable[[], Row]) -> Row:
        """What is kept under a name, or else is made now and kept."""
        rows = self.rows.setdefault(kind, {})
        if key not in rows:
            rows[key] = make()
            write_json(self._path, self.rows)
        return rows[key]


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


def train(data: Path, text: str, minutes: float | None, options: Sequence[str]) -> Row:
    """One training by the command line, its process measured, its model scored."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        length = [] if minutes is None else ["--minutes", f"{minutes:g}"]
        command = [*TINYSLM, "train", *paths(data, text), *length, *options, "--out", str(out), "--json"]
        printed, problem, seconds, peak = measured(command)
        row = {"text": text, "date": datetime.now(UTC).date().isoformat(), "seconds": round(seconds, 2)}
        row |= {"machine": machine(), "peak_bytes": peak}
        if problem:
            return {**row, "minutes": minutes, "failed": problem}
        return {**row, **outcome(json.loads(printed)["result"], out), **scored_alike(out)}


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
            sys.exit("The training was interrupted, and is not kept. Start this again to go on.")
        errors.seek(0)
        said = errors.read().strip()
    problem = said[-500:] or f"ended with {process.returncode}" if process.returncode else ""
    return printed, problem, seconds, 1024 * usage.ru_maxrss  # Linux counts it in KiB


def machine() -> str:
    """Where this is measured."""
    found = examine_machine()
    return f"{found.cores} cores, {found.processor}"


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


def scored_alike(out: Path) -> Row:
    """Bits per byte on the documents that all runs on a text are compared by, and the bytes of a token."""
    command = [sys.executable, __file__, "score", str(out)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def score(arguments: argparse.Namespace) -> None:
    """Every n-th validation document, in fp32; which ones does not depend on the vocabulary."""
    from tinyslm import load_model
    from tinyslm.evaluation.loss import score_documents
    from tinyslm.training.run_folder import RunFolder

    shards = RunFolder.open(arguments.folder).open_shards()
    valid = shards.split("valid")
    numbers = range(0, valid.documents, -(-valid.utf8_bytes // SCORED_BYTES))
    documents = ((valid.document(i)[:-1].tolist(), valid.document_bytes(i)) for i in numbers)
    found = score_documents(load_model(arguments.folder / "model"), documents, end_id=shards.tokenizer.eos_id)
    train = shards.split("train")
    lengths = [round(split.utf8_bytes / split.tokens, 4) for split in (train, valid)]
    told = dict(zip(("bytes_per_token", "held_out_bytes_per_token"), lengths, strict=True))
    print(json.dumps({"compared": found.bits_per_byte, **told}))


def drawn(arguments: argparse.Namespace, text: str, minutes: float) -> list[dict[str, Any]]:
    """What to try: drawn in a process of its own, which looks at the text and the machine as the planner does."""
    command = [sys.executable, str(Path(__file__).parent / "random_shapes.py"), *paths(arguments.data, text)]
    command += ["--minutes", f"{minutes:g}", "--shapes", str(arguments.shapes), "--seed", str(arguments.seed)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def report(arguments: argparse.Namespace, part: str = "") -> None:
    """Tables of what is kept, or of a part of it; the last line is that as JSON."""
    kept = Kept(arguments.kept).rows
    found = {"runs": list(runs(kept)), "searches": list(searches(kept)), "seeds": list(spreads(kept))}
    if part in ("", "runs"):
        print("\ntext, budget: ended after | peak memory | bits per byte")
        for row in found["runs"]:
            print(f"{name(row['text'], row['minutes'])}: {row.get('failed') or told_run(row)}")
    if part in ("", "searches"):
        print("\ntext, budget: planned | best of a random search, on the same documents")
        for row in found["searches"]:
            print(f"{name(row['text'], row['minutes'])}: {told_search(row)}")
    if part in ("", "seeds"):
        print("\ntext, budget: five seeds, on the same documents")
        for row in found["seeds"]:
            print(f"{name(row['text'], row['minutes'])}: {told_spread(row)}")
    print(json.dumps({part: found[part]} if part else found))


def runs(kept: dict[str, dict[str, Row]]) -> Iterator[Row]:
    """Planned runs with what they are off by."""
    for row in kept.get("runs", {}).values():
        yield row if "failed" in row else {**row, **missed(row)}


def missed(row: Row) -> Row:
    """What a planned run is off by, as shares of what was promised; bits per byte as a difference."""
    return {
        "time_off": row["seconds"] / (60 * row["minutes"]) - 1,
        "memory_off": row["peak_bytes"] / row["expected"]["memory_bytes"] - 1,
        "bits_off": row["bits_per_byte"] - row["expected"]["bits_per_byte"],
    }


def searches(kept: dict[str, dict[str, Row]]) -> Iterator[Row]:
    """What was drawn and trained at each budget, the best first, beside the plan of the same budget."""
    found: dict[tuple[str, float], list[Row]] = {}
    failed: dict[tuple[str, float], int] = {}
    for row in kept.get("searched", {}).values():
        place = row["text"], row["minutes"]
        found.setdefault(place, [])
        if "failed" in row:
            failed[place] = failed.get(place, 0) + 1
        else:
            found[place].append({key: row[key] for key in ("compared", "parameters", "shape", "tokens", "seconds")})
    for (text, minutes), rows in found.items():
        planned = kept.get("runs", {}).get(name(text, minutes), {}).get("compared")
        rows.sort(key=lambda row: row["compared"])
        best = rows[0]["compared"] if rows else None
        yield {
            **{"text": text, "minutes": minutes, "planned": planned, "best": best},
            "ratio": planned / best if planned and best else None,
            **{"failed": failed.get((text, minutes), 0), "rows": rows},
        }


def spreads(kept: dict[str, dict[str, Row]]) -> Iterator[Row]:
    """The scores of several seeds."""
    found: dict[tuple[str, float], list[float]] = {}
    for row in kept.get("seeds", {}).values():
        if "failed" not in row:
            found.setdefault((row["text"], row["minutes"]), []).append(row["compared"])
    for (text, minutes), scores in found.items():
        yield {
            **{"text": text, "minutes": minutes, "scores": scores, "mean": statistics.mean(scores)},
            "deviation": statistics.stdev(scores) if len(scores) > 1 else None,
            **{"low": min(scores), "high": max(scores)},
        }


def told_run(row: Row) -> str:
    expected, off = row["expected"], missed(row)
    bits = f"{expected['bits_per_byte']:.4f} ({expected['low']:.4f} to {expected['high']:.4f})"
    return (
        f"{row['seconds']:.1f} s ({off['time_off']:+.1%}) | {row['peak_bytes'] / 1e6:,.0f} MB, "
        f"{expected['memory_bytes'] / 1e6:,.0f} expected ({off['memory_off']:+.1%}) | "
        f"{row['bits_per_byte']:.4f}, {bits} expected ({off['bits_off']:+.4f}) | {told_shape(row)}"
    )


def told_shape(row: Row) -> str:
    shape = ", ".join(f"{key} {value:g}" for key, value in row["shape"].items())
    return f"{row['compared']:.4f} on the same documents, {row['parameters'] / 1e6:.2f}M parameters ({shape})"


def told_search(row: Row) -> str:
    number = len(row["rows"])
    best = f"{row['best']:.4f} of {number}, {row['failed']} more failed" if row["rows"] else "none"
    if row["ratio"] is None:
        return f"{'not measured' if row['planned'] is None else format(row['planned'], '.4f')} | {best}"
    better = sum(one["compared"] < row["planned"] for one in row["rows"])
    return f"{row['planned']:.4f} | {best} | {row['ratio']:.4f} times; {better} of {number} are better than planned"


def told_spread(row: Row) -> str:
    deviation = "" if row["deviation"] is None else f", standard deviation {row['deviation']:.4f}"
    return f"{row['mean']:.4f} ({row['low']:.4f} to {row['high']:.4f}) over {len(row['scores'])}{deviation}"


if __name__ == "__main__":
    main()
