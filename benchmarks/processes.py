"""One process and several, which share this machine's cores: training, preparing data, and serving.

    python benchmarks/processes.py                                   training steps, 10.65M parameters
    python benchmarks/processes.py data --data stories.jsonl         text to shards, by so many workers
    python benchmarks/processes.py serving                           servers, each asked by its share of 200 clients
    python benchmarks/processes.py --threads 1                       one thread in each process, however many there are

They alternate, and each round starts its processes anew. One process has all cores, and each of several an equal share
of them, unless the number of threads is given. Preparing data takes one core for each worker. In training, all
processes compute the same update together, and steps after the first ones are timed. The servers have the model of
`server_load.py`, which says what is asked; requests go to each of them directly. The result has the rates, and how many
times as fast several processes are.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
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
BATCH, WARM_UP, CLIENTS = 16, 2, 200


def main() -> None:
    options = parser(__doc__)
    options.add_argument("what", nargs="?", choices=["training", "data", "serving"], default="training")
    options.add_argument("--data", type=Path, help="a .jsonl file with a text column, for data")
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--threads", type=int, default=0, help="of each process")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=8, help="timed steps of each in one round of training")
    options.add_argument("--seconds", type=float, default=20.0, help="that clients ask in one round of serving")
    options.add_argument("--rank", type=int, default=-1, help="be one of the processes")
    options.add_argument("--store", default="")
    options.add_argument("--world", type=int, default=1)
    arguments = options.parse_args()
    if arguments.rank >= 0:
        print(json.dumps(rate(arguments.rank, arguments.world, arguments.store, arguments.steps)))
        return
    with TemporaryDirectory() as name:
        work, threads = Path(name), arguments.threads
        about, measure = {
            "training": lambda: training(threads, arguments.steps),
            "data": lambda: preparing(arguments.data, work),
            "serving": lambda: serving(threads, arguments.seconds, work),
        }[arguments.what]()
        ways = {f"{size} processes": lambda _, size=size: measure(size) for size in (1, arguments.processes)}
        one, several = (rates := alternate(ways, range(arguments.rounds + 1))).values()
    kind = "mb_per_second" if arguments.what == "data" else "tokens_per_second"
    finish({**about, "threads": threads, kind: medians(rates), "times": ratio(several, one)})


Measured = tuple[dict, Callable[[int], float]]
"""What is measured, for the result, and the rate of so many processes."""


def training(threads: int, steps: int) -> Measured:
    return {**SHAPE, "batch": BATCH}, lambda size: started(size, threads or share_of_cores(size), steps)


def share_of_cores(size: int) -> int:
    return max(1, usable_cores() // size)


def preparing(data: Path, work: Path) -> Measured:
    """Megabytes of text per second, from documents to shards."""
    from tinyslm.data.config import DataConfig
    from tinyslm.data.prepare import prepare
    from tinyslm.data.reading import read_documents
    from tinyslm.tokenizer.training import train_tokenizer

    megabytes = sum(len(document.text.encode()) for document in read_documents([str(data)])) / 1e6
    tokenizer = train_tokenizer((one.text for one in read_documents([str(data)])), vocab_size=4096)

    def rate(workers: int) -> float:
        with TemporaryDirectory(dir=work) as out:
            begun = time.perf_counter()
            prepare([str(data)], Path(out) / "shards", tokenizer=tokenizer, config=DataConfig(workers=workers))
            return megabytes / (time.perf_counter() - begun)

    return {"megabytes": megabytes}, rate


def serving(threads: int, seconds: float, work: Path) -> Measured:
    """Tokens per second of whole answers."""
    from echo_model import echo_model
    from local_server import local_server
    from server_load import load

    model = echo_model(work / "echo")

    def rate(servers: int) -> float:
        clients, usual = CLIENTS // servers, str(threads or share_of_cores(servers))
        more = ("--max-requests", str(2 * CLIENTS), "--threads", usual)

        async def ask(started: list[tuple[str, int]]) -> int:
            seen = await asyncio.gather(*[load(url, process, clients, seconds) for url, process in started])
            assert not any(one.counts["wrong"] for one, _ in seen)
            return sum(one.tokens for one, _ in seen)

        with ExitStack() as stack:
            logs = [work / f"log{number}" for number in range(servers)]
            started = [stack.enter_context(local_server(model, log, *more)) for log in logs]
            return asyncio.run(ask(started)) / seconds

    return {"clients": CLIENTS, "seconds": seconds}, rate


def started(size: int, threads: int, steps: int) -> float:
    """Tokens per second of so many processes that train."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with TemporaryDirectory() as folder:
        command = [sys.executable, __file__, f"--store={folder}/store", f"--world={size}", f"--steps={steps}"]
        begun = [
            subprocess.Popen([*command, f"--rank={rank}"], env=environment, stdout=subprocess.PIPE, text=True)
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
