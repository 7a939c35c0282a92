"""What `tinyslm generate` takes before and for its first tokens: processor seconds and memory.

    python benchmarks/generate_start.py --model MODEL

Each round starts `tinyslm generate MODEL` for 8 tokens, and Python importing PyTorch alone, in a process of its own.
Time is that of the processor (user and system), which other programs disturb less than the clock; the least of all
rounds counts. Memory is the most that the process had, pages of mapped files included.
"""

import os
import subprocess
import sys
from pathlib import Path

from harness import TINYSLM, finish, parser

TOKENS = "8"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="a model folder, such as one that `quantize` wrote")
    options.add_argument("--rounds", type=int, default=7)
    arguments = options.parse_args()
    commands = {
        "generate": [*TINYSLM, "generate", str(arguments.model), "Hello there", "--max-tokens", TOKENS],
        "import torch": [sys.executable, "-c", "import torch"],
    }
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
    for number in range(arguments.rounds):
        for name, command in commands.items():
            found[name].append(measure(command))
        print(f"round {number + 1}:", {name: rounds[-1] for name, rounds in found.items()}, flush=True)
    finish({
        name: {"seconds": min(time for time, _ in rounds), "bytes": min(memory for _, memory in rounds)}
        for name, rounds in found.items()
    })  # fmt: skip


def measure(command: list[str]) -> tuple[float, int]:
    """Processor seconds and the most memory in bytes of a command."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


if __name__ == "__main__":
    main()
