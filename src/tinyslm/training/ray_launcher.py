"""Distributed training on a Ray cluster: Ray Train places the processes, and each gets the environment of torchrun."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyslm.core.cluster import join_cluster
from tinyslm.core.errors import TinyslmError, require_extra

FAILED = 1


def run_on_ray(processes: int, arguments: Sequence[str]) -> int:
    """Run `tinyslm` with these arguments in `processes` processes on the cluster of this host.

    Each gets an equal share of the cluster's cores, and a GPU where the cluster has enough of them. All hosts must see
    the current folder. Returns the exit code of rank 0, or `FAILED` if a process was lost. Raises `TinyslmError` if
    the cluster has too few cores.
    """
    try:
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError
    except ImportError:
        raise require_extra("cluster", "A Ray cluster") from None
    join_cluster()
    resources = ray.cluster_resources()
    cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
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
            failed = [one for one in error.worker_failures.values() if isinstance(one, ProcessFailed)]
            return next((one.code for one in failed if one.rank == 0), FAILED)
    return 0


class ProcessFailed(Exception):
    """A process ended with an exit code other than 0."""

    def __init__(self, rank: int, code: int) -> None:
        super().__init__(rank, code)
        self.rank, self.code = rank, code

    def __str__(self) -> str:
        return f"process {self.rank} ended with exit code {self.code}"


def _run_process(config: dict[str, Any]) -> None:
    """One process: run the program with the variables that torchrun sets. Raises `ProcessFailed`."""
    from ray.train import get_context
    from ray.train.collective import broadcast_from_rank_zero

    context = get_context()
    rank = context.get_world_rank()
    address, port = broadcast_from_rank_zero(_free_address() if rank == 0 else None)
    variables = {
        "RANK": rank,
        "LOCAL_RANK": context.get_local_rank(),
        "WORLD_SIZE": context.get_world_size(),
        "LOCAL_WORLD_SIZE": context.get_local_world_size(),
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
    }
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    command = [sys.executable, "-m", "tinyslm", *config["arguments"]]
    done = subprocess.run(command, cwd=config["folder"], env=environment, check=False)  # noqa: S603  (this program)
    if done.returncode:
        raise ProcessFailed(rank, done.returncode)


def _free_address() -> tuple[str, int]:
    """This host's address in the cluster, and a port that is free there."""
    import ray

    address = ray.util.get_node_ip_address()
    with socket.create_server((address, 0)) as free:
        return address, free.getsockname()[1]
