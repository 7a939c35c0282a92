"""Run the benchmarks one after the other, store their results, and write docs/results.md, docs/packs-figures.md
and their plots.

    python benchmarks/all.py --data FOLDER            all but `LONG` (the folder holds shakespeare/ and stories/)
    python benchmarks/all.py --data FOLDER --only engines throughput
    python benchmarks/all.py --page                   only write the page again

Results go to benchmarks/results.json, each with its command, date and machine. Nothing else should be running.
Benchmarks whose data, model or program is not given are left out; "scoring" and "finetuning" need the packages of
`make test-peers` (`.venv-peers/bin/python benchmarks/all.py --only scoring ...`). The training benchmarks store each
run in a file such as `stories_runs.json`, and resume; delete these files to begin anew.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from areas import WITHOUT_BF16
from harness import HERE, parser
from page import write_page
from tinyslm.hardware.device import has_fast_bf16, pick_device

RESULTS = HERE / "results.json"
BENCHMARKS = {
    "throughput": "throughput.py",
    "gpu": "gpu.py",
    "processes": "processes.py",
    "processes data": "processes.py data --data DATA/stories/train.jsonl --rounds 3",
    "processes serving": "processes.py serving --rounds 3",
    "attention": "attention.py",
    "head loss": "head_loss.py",
    "share of ceiling": "share_of_ceiling.py",
    "shakespeare": "shakespeare.py --data DATA/shakespeare",
    "stories": "stories.py --data DATA/stories --runs benchmarks/stories_runs.json",
    "planner": "planner.py run --data DATA",
    "planner search": "planner.py search --data DATA --minutes 1 5 --texts stories python shakespeare",
    "data": "data_prepare.py --data DATA/stories/train.jsonl",
    "tokenization": "tokenization.py --data DATA --runs benchmarks/tokenization_runs.json --seeds 1 2 3",
    "large data": "large_data.py",
    "memory": "data_prepare.py --memory --data DATA/stories/train.jsonl",
    "import": "import_gguf.py",
    "quantization": "quantization.py --data DATA/stories",
    "engines": "engines.py",
    "engines compiled": "engines.py --llama-cpp PROGRAM --only compiled --rounds 4",
    "structured": "structured.py --data DATA/stories",
    "tool calls": "tool_calls.py",
    "server overhead": "server_overhead.py",
    "server load": "server_load.py --minutes 5",
    "container": "container.py --folder BUNDLE --image IMAGE --rounds 100",
    "scoring": "scoring.py --data DATA/eval --full",
    "linting": "linting.py --model MODEL --soup SOUP",
    "finetuning": "finetuning.py --model MODEL --data DATA/sft",
    "finetuning all weights": "finetuning.py --model MODEL --data DATA/sft --dtype bf16 --full",
    "rewards": "rewards.py --model MODEL --dtype bf16",
    "qlora": "qlora.py --model MODEL",
    "shell commands": "own_job.py --model MODEL --train DATA/sft/shell_commands.train.jsonl --valid "
    "DATA/sft/shell_commands.valid.jsonl --grader normalized --then rejection",
    "product extraction": "own_job.py --model MODEL --train DATA/sft/product_extract.train.jsonl --valid "
    "DATA/sft/product_extract.valid.jsonl --grader json --pack logic",
    "chatbot": "chatbot.py --data DATA",
    "logic pack": "logic_pack.py --model MODEL",
    "excel pairs": "excel_pairs.py",
    "excel pack": "pack.py excel --model MODEL --then rejection --curve",
    "excel pack, new model": "pack.py excel --params 5M --curve",
    "prices pack": "pack.py prices --model MODEL --curve",
    "security pack": "pack.py security --model MODEL --curve",
    "finetuning bf16": "finetuning.py --model MODEL --data DATA/sft --dtype bf16",
    "finetuning fp32": "finetuning.py --model MODEL --data DATA/sft --dtype fp32",
}
PACKS = {"logic pack", "excel pack", "excel pack, new model", "prices pack", "security pack"}
LONG = {"planner", "planner search", "tokenization", "shell commands", "product extraction", "chatbot", *PACKS}
"""From half an hour to hours each; run only when they are named."""
OF_THE_NUMBER_FORMAT = {"throughput", "attention", "share of ceiling", "planner"}
"""Their results depend on whether the processor is fast at bf16."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--data", type=Path, help="a folder with shakespeare/input.txt and stories/train.jsonl")
    options.add_argument("--llama-cpp", type=Path, help="llama-batched-bench, compiled for this processor")
    options.add_argument("--model", type=Path, help="SmolLM2-135M-Instruct, as `tinyslm pull` writes it")
    options.add_argument("--soup", type=Path, help="the program of the package soup-cli, with transformers beside it")
    options.add_argument("--bundle", type=Path, help="the folder of a bundle container")
    options.add_argument("--image", type=Path, help="the name of the image that was built from it")
    options.add_argument("--only", nargs="+", choices=list(BENCHMARKS), help="run just these")
    options.add_argument("--page", action="store_true", help="run nothing, write the page")
    arguments = options.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    places = {"DATA": arguments.data, "PROGRAM": arguments.llama_cpp, "MODEL": arguments.model, "SOUP": arguments.soup}
    places |= {"BUNDLE": arguments.bundle, "IMAGE": arguments.image}
    chosen = arguments.only or [name for name in BENCHMARKS if name not in LONG]
    for name in [] if arguments.page else chosen:
        command = BENCHMARKS[name]
        if name == "gpu" and not torch.cuda.is_available():
            print("gpu: left out, there is no GPU")
            continue
        if any(word in command and path is None for word, path in places.items()):
            print(f"{name}: left out, it needs a path for {command}")
            continue
        print(f"{name} ...", flush=True)
        results[place(name)] = {**run(command, places), "command": f"python benchmarks/{command}"}
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    write_page(results)


def place(name: str) -> str:
    """The name that a result is stored under."""
    slow = name in OF_THE_NUMBER_FORMAT and not has_fast_bf16(pick_device("cpu"))
    return f"{name}{WITHOUT_BF16}" if slow else name


def run(command: str, places: Mapping[str, Path | None]) -> dict[str, Any]:
    """Run a benchmark with its output shown; returns the row that it prints as its last line."""
    for word, path in places.items():
        command = command.replace(word, shlex.quote(str(path)))
    script, *arguments = shlex.split(command)
    process = subprocess.Popen([sys.executable, str(HERE / script), *arguments], stdout=subprocess.PIPE, text=True)
    last = ""
    assert process.stdout is not None
    for line in process.stdout:
        print(" ", line, end="", flush=True)
        last = line
    if process.wait():
        sys.exit(f"{script} failed")
    return json.loads(last)


if __name__ == "__main__":
    main()
