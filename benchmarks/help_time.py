"""Seconds that `tinyslm --help` takes, from a shell's view, and whether it imports torch.

    python benchmarks/help_time.py

The last line printed is the result as JSON.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15


def main() -> None:
    command = [str(Path(sys.executable).parent / "tinyslm"), "--help"]
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    program = (
        "import sys, tinyslm.cli\n"
        "sys.argv[1:] = ['--help']\n"
        "try: tinyslm.cli.main()\n"
        "finally: assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    print(json.dumps({"median": statistics.median(seconds), "low": min(seconds), "high": max(seconds)}))


if __name__ == "__main__":
    main()
