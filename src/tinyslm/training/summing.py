"""How long two processes on this machine take to sum tensors.

Each of them is `python -m tinyslm.training.summing FILE RANK`.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

SIZES = (16, 2**20)
"""Values that are summed: few, for what every message takes, and many."""
TIMES = 7
LONGEST = 120
"""Seconds that the measurement may take, on a busy machine."""


@dataclass(frozen=True)
class Summing:
    """Seconds for a sum between two processes: for each message, and for each value."""

    message: float
    value: float

    def seconds(self, values: int, processes: int) -> float:
        """The time of a sum in a ring of processes: each sends `2 (n - 1) / n` of the values (Patarasuk 2009)."""
        return 2 * (processes - 1) * (self.message / 2 + self.value * values / processes)


def measure_summing() -> Summing:
    """Start two processes that sum, and time them. Raises `RuntimeError` if they fail."""
    with TemporaryDirectory(prefix="tinyslm-") as folder:
        command = [sys.executable, "-m", __name__, str(Path(folder) / "store")]
        both = [
            subprocess.Popen([*command, rank], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603
            for rank in "01"
        ]
        try:
            said, errors = both[0].communicate(timeout=LONGEST)
        finally:
            for process in both:
                process.kill()
                process.communicate()
    if both[0].returncode:
        raise RuntimeError(f"Two processes could not be timed: {errors}")
    few, many = json.loads(said)
    value = max(0.0, many - few) / (SIZES[1] - SIZES[0])
    return Summing(max(0.0, few - value * SIZES[0]), value)


def _time(store: str, rank: int) -> list[float]:
    """Seconds of a sum of each of the sizes, in one of the two processes."""
    import torch
    from torch import distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = []
    for count in SIZES:
        values, times = torch.zeros(count), []
        for _ in range(TIMES):
            dist.barrier()
            begun = time.perf_counter()
            dist.all_reduce(values)
            times.append(time.perf_counter() - begun)
        found.append(median(times))
    dist.destroy_process_group()
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_time(sys.argv[1], int(sys.argv[2]))))
