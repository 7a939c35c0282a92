"""Run the benchmarks one after the other, keep their results, and write docs/results.md from them.

    python benchmarks/all.py --data FOLDER            all but `LONG` (the folder holds shakespeare/ and stories/)
    python benchmarks/all.py --data FOLDER --only generation throughput
    python benchmarks/all.py --render                 only write docs/results.md again

Results are kept in benchmarks/results.json, each with the machine and the date it was measured on. Nothing else should
be running. Benchmarks whose data is not there are left out. Those of training keep each run at once, in
`stories_runs.json` and `planner_runs.json`: started again they go on, and with those files deleted they begin anew.
"""

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from render import ROWS, render
from render_training import WITHOUT, draw
from tinyslm.hardware.device import has_fast_bf16, pick_device
from tinyslm.hardware.machine import examine_machine
from tinyslm.hardware.speed import measure_speed

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs" / "results.md"
LONG = {"planner", "planner search", "seeds"}
"""Run only when they are named."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--only", nargs="+", choices=list(commands(Path())), help="run just these")
    parser.add_argument("--render", action="store_true", help="run nothing, write the page")
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name, command in {} if arguments.render else commands(arguments.data).items():
        if name not in arguments.only if arguments.only else name in LONG:
            continue
        missing = [part for part in command if part.startswith(str(arguments.data)) and not Path(part).exists()]
        if missing:
            print(f"{name}: left out, there is no {missing[0]}")
            continue
        print(f"{name} ...", flush=True)
        results[place(name)] = {"result": run(command), **circumstances(command, arguments.data)}
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    pictures = draw(results)
    for name, svg in pictures.items():
        (PAGE.parent / name).write_text(svg, encoding="utf-8")
    PAGE.write_text(render(results, pictures), encoding="utf-8")


def commands(data: Path) -> dict[str, list[str]]:
    """Each benchmark's script and its arguments."""
    stories, shakespeare = str(data / "stories"), str(data / "shakespeare")
    plans = [] if place("planner") == "planner" else ["--kept", str(HERE / "planner_runs_fp32.json")]
    return {
        "throughput": ["throughput.py"],
        "attention": ["attention.py"],
        "head loss": ["head_loss.py"],
        "share of ceiling": ["share_of_ceiling.py"],
        "gpu step": ["gpu_step.py"],
        "shakespeare": ["shakespeare.py", "--data", shakespeare],
        "stories": ["stories.py", "--data", stories, "--keep", str(HERE / "stories_runs.json")],
        "planner": ["planner.py", "run", "--data", str(data), *plans],
        "planner search": ["planner.py", "search", "--data", str(data), "--minutes", "1", "5"],
        "seeds": ["planner.py", "seeds", "--data", str(data)],
        "help": ["help_time.py"],
        "generation": ["generation.py"],
        "data": ["data_prepare.py", "--data", f"{stories}/train.jsonl"],
        "memory": ["data_prepare.py", "--memory", "--data", f"{stories}/train.jsonl"],
        "parity": ["parity.py"],
        "loading": ["load_memory.py"],
        "import": ["import_gguf.py"],
        "quantization": ["quantization.py", "--data", stories],
        "engines": ["engines.py"],
        "structured": ["structured.py", "--data", stories],
        "tool calls": ["tool_calls.py"],
        "server overhead": ["server_overhead.py"],
        "server load": ["server_load.py", "--minutes", "5"],
        "server fuzz": ["server_fuzz.py", "--cases", "10000"],
    }


def place(name: str) -> str:
    """Under what name a result is kept: those of training depend on whether the processor has instructions for bf16."""
    other = f"{name}{WITHOUT}"
    return name if other not in ROWS or has_fast_bf16(pick_device("cpu")) else other


def run(command: list[str]) -> object:
    """Run a benchmark with its output shown; its last line is the result as JSON."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / command[0]), *command[1:]], stdout=subprocess.PIPE, text=True
    )
    last = ""
    assert process.stdout is not None
    for line in process.stdout:
        print(" ", line, end="", flush=True)
        last = line
    if process.wait():
        sys.exit(f"{command[0]} failed")
    return json.loads(last)


def circumstances(command: list[str], data: Path) -> dict:
    """Where and when a result was measured, and how fast the machine was right after."""
    speed, machine = measure_speed(), examine_machine()
    said = " ".join(["python", f"benchmarks/{command[0]}", *command[1:]])
    return {
        "command": said.replace(str(data), "DATA").replace(f"{HERE.parent}/", ""),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{machine.cores} cores, {machine.processor}",
        "gflops_bf16": round(speed.gflops_bf16) if speed.gflops_bf16 else None,
        "gflops_fp32": round(speed.gflops_fp32),
    }


if __name__ == "__main__":
    main()
