"""The processes of a training on the hosts of a Ray cluster: Ray Train places them, as torchrun does on given hosts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra

FAILED = 1


def run_on_ray(processes: int, arguments: Sequence[str]) -> int:
    """Run `tinyslm` with these arguments in so many processes on the cluster that this one belongs to.

    Each gets an equal share of the cluster's cores, and a GPU where the cluster has enough of them. All hosts must see
    the current folder. Returns the exit code of process 0, or `FAILED` if a process was lost. Raises `TinyslmError` if
    the cluster has too few cores.
    """
    try:
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError
    except ImportError:
        raise require_extra("cluster", "A Ray cluster") from None
    try:
        ray.init(address="auto", logging_level="error", ignore_reinit_error=True)
    except ConnectionError:
        raise TinyslmError(
            "There is no Ray cluster on this host.",
            "Start one with `ray start --head`, or name the host of one: --on ray://HOST",
        ) from None
    has = ray.cluster_resources()
    cores, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
    if processes > cores:
        raise TinyslmError(
            f"The cluster has {cores} cores: too few for {processes} processes.",
            f"Start at most {cores} processes: --world {cores}",
        )
    with tempfile.TemporaryDirectory(prefix="tinyslm-") as folder:
        trainer = DataParallelTrainer(
            _run_process,
            train_loop_config={"arguments": list(arguments), "folder": str(Path.cwd())},
            scaling_config=ScalingConfig(
                num_workers=processes,
                use_gpu=gpus >= processes,
                resources_per_worker={"CPU": cores // processes, **({"GPU": 1} if gpus >= processes else {})},
            ),
            run_config=RunConfig(storage_path=folder),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            ended = [one for one in error.worker_failures.values() if isinstance(one, Ended)]
            return next((one.code for one in ended if one.rank == 0), FAILED)
    return 0


class Ended(Exception):
    """A process has ended with an exit code that is not 0."""

    def __init__(self, rank: int, code: int) -> None:
        super().__init__(rank, code)
        self.rank, self.code = rank, code

    def __str__(self) -> str:
        return f"process {self.rank} has ended with exit code {self.code}"


def _run_process(config: dict[str, Any]) -> None:
    """Be one of the processes: start the program with what torchrun would tell it. Raises `Ended`."""
    from ray.train import get_context
    from ray.train.collective import broadcast_from_rank_zero

    context = get_context()
    rank = context.get_world_rank()
    address, port = broadcast_from_rank_zero(_free_address() if rank == 0 else None)
    told = {
        "RANK": rank,
        "LOCAL_RANK": context.get_local_rank(),
        "WORLD_SIZE": context.get_world_size(),
        "LOCAL_WORLD_SIZE": context.get_local_world_size(),
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
    }
    environment = {**os.environ, **{name: str(value) for name, value in told.items()}}
    command = [sys.executable, "-m", "tinyslm", *config["arguments"]]
    done = subprocess.run(command, cwd=config["folder"], env=environment, check=False)  # noqa: S603  (this program)
    if done.returncode:
        raise Ended(rank, done.returncode)


def _free_address() -> tuple[str, int]:
    """This host's address in the cluster, and a port that is free there."""
    import ray

    address = ray.util.get_node_ip_address()
    with socket.create_server((address, 0)) as free:
        return address, free.getsockname()[1]
