"""Training steps in one process with all threads, and in two with half of them each.

    python benchmarks/processes.py                 10.65M parameters
    python benchmarks/processes.py --processes 4

Both train on the same random tokens, with the same batch. They alternate; each round starts its processes anew, and
times steps after the first ones. The result has tokens per second, and how much several processes are faster.
"""

import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from tempfile import TemporaryDirectory

import torch

from harness import alternate, finish, medians, parser, ratio
from tinyslm import Decoder, ModelConfig
from tinyslm.hardware.device import pick_dtype
from tinyslm.hardware.limits import usable_cores
from tinyslm.training.config import OptimizerConfig
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.stage import Batch
from tinyslm.training.stages.pretrain import next_token_loss
from tinyslm.training.world import World

SHAPE = {"dim": 384, "depth": 6, "heads": 6, "context": 256, "vocab_size": 64}
BATCH, WARM_UP = 16, 2


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=8, help="timed steps of each in one round")
    options.add_argument("--rank", type=int, default=-1, help="be one of the processes")
    options.add_argument("--store", default="")
    options.add_argument("--world", type=int, default=1)
    arguments = options.parse_args()
    if arguments.rank >= 0:
        print(json.dumps(rate(arguments.rank, arguments.world, arguments.store, arguments.steps)))
        return
    ways = {
        f"{size} processes": lambda _, size=size: started(size, arguments.steps) for size in (1, arguments.processes)
    }
    rates = alternate(ways, range(arguments.rounds + 1))
    one, several = rates.values()
    finish({**SHAPE, "batch": BATCH, "tokens_per_second": medians(rates), "times": ratio(several, one)})


def started(size: int, steps: int) -> float:
    """Tokens per second of so many processes."""
    threads = {"OMP_NUM_THREADS": str(max(1, usable_cores() // size))}
    with TemporaryDirectory() as folder:
        command = [sys.executable, __file__, f"--store={folder}/store", f"--world={size}", f"--steps={steps}"]
        begun = [
            subprocess.Popen([*command, f"--rank={rank}"], env=os.environ | threads, stdout=subprocess.PIPE, text=True)
            for rank in range(size)
        ]
        said = [process.communicate()[0] for process in begun]
    return float(said[0].splitlines()[-1])


def rate(rank: int, size: int, store: str, steps: int) -> float:
    """Tokens per second of all processes, in one of them."""
    if size > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=timedelta(minutes=5)
        )
    world = World.current()
    torch.manual_seed(1)
    model = Decoder(ModelConfig(**SHAPE))
    windows = torch.randint(SHAPE["vocab_size"], (BATCH, SHAPE["context"] + 1))[world.share(BATCH)]
    settings = StepSettings(WARM_UP + steps, BATCH, 1.0, pick_dtype(torch.device("cpu")), lambda _: 1.0)
    optimizers = Optimizers(model, OptimizerConfig(), world=world)
    begun = 0.0
    for report in train_steps(
        model, next_token_loss, lambda: Batch.of_windows(windows), optimizers, settings, world=world
    ):
        if report.step == WARM_UP:
            begun = time.perf_counter()
    return steps * BATCH * SHAPE["context"] / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
