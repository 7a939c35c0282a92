"""What the benchmarks share: alternating rounds, ratios with their spread, processes to measure in, the printed result.

It imports nothing large: a new process counts the memory of the one that started it until it has more of its own.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from tinyslm.core.files import write_json

HERE = Path(__file__).parent
TINYSLM = [sys.executable, "-c", "from tinyslm.cli import main; main()"]
"""The command, for a process of its own."""
Question = TypeVar("Question")
Rates = dict[str, list[float]]
"""What was measured in each round, by contender."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser whose help is a benchmark's docstring."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def alternate(contenders: Mapping[str, Callable[[Question], float]], questions: Iterable[Question]) -> Rates:
    """Ask every contender each question, in turns. The answers to the first question are a warm-up and not recorded."""
    rates: Rates = {name: [] for name in contenders}
    for number, question in enumerate(questions):
        for name, measure in contenders.items():
            value = measure(question)
            if number:
                rates[name].append(value)
        if number:
            print(f"round {number}:", {name: float(f"{values[-1]:.4g}") for name, values in rates.items()}, flush=True)
    return rates


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, lowest and highest of some values."""
    found = list(values)
    return {"median": statistics.median(found), "low": min(found), "high": max(found)}


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> dict[str, float]:
    """The spread of the ratios of two contenders, round by round."""
    return spread(a / b for a, b in zip(numerators, denominators, strict=True))


def medians(rates: Rates) -> dict[str, float]:
    """The median of each contender."""
    return {name: statistics.median(values) for name, values in rates.items()}


def compare(rates: Rates, peer: str) -> dict[str, Any]:
    """Median tokens per second of all contenders, and the others' ratios to the peer."""
    ratios = {name: ratio(values, rates[peer]) for name, values in rates.items() if name != peer}
    return {"tokens_per_second": medians(rates), "ratios": ratios}


def in_process(function: str, *arguments: Any) -> Any:
    """What a function ("module.name") of the benchmarks returns for these JSON values, in a process of its own."""
    module = function.partition(".")[0]
    call = f"import json, sys, {module}; print(json.dumps({function}(*json.loads(sys.argv[1]))))"
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); {call}"
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def peak_memory() -> int:
    """The most memory in bytes that this process has had so far."""
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def train_small(data: Path, out: Path, minutes: float, shape: Mapping[str, int]) -> Path:
    """The model folder of a model of this shape after some minutes on data/train.jsonl."""
    from tinyslm import train

    settings = {"model": shape, "tokenizer": {"vocab_size": 4096}, "data": {"valid_paths": [str(data / "valid.jsonl")]}}
    train([data / "train.jsonl"], out, minutes=minutes, settings=settings)
    return out / "model"


class Finished:
    """Finished parts of a long benchmark in a JSON file, so that it resumes after an interruption."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}

    def once(self, kind: str, key: str, make: Callable[[], Any]) -> Any:
        """The part with this name, made and saved now if it is not there."""
        rows = self.rows.setdefault(kind, {})
        if key not in rows:
            self.keep(kind, key, make())
        return rows[key]

    def keep(self, kind: str, key: str, value: Any) -> None:
        """Save a part under this name."""
        self.rows.setdefault(kind, {})[key] = value
        write_json(self._path, self.rows)


def machine() -> str:
    """This machine, in words."""
    from tinyslm.hardware.machine import examine_machine

    found = examine_machine()
    return f"{found.cores} cores, {found.processor}"


def finish(result: Any) -> None:
    """Print the result as the last line: JSON with the command, the date, the machine, and its speed right after."""
    from tinyslm.hardware.speed import measure_speed

    speed = measure_speed()
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    row = {"result": result, "command": command, "date": datetime.now(UTC).date().isoformat(), "machine": machine()}
    print(json.dumps({**row, "gflops_bf16": round(speed.gflops_bf16), "gflops_fp32": round(speed.gflops_fp32)}))
