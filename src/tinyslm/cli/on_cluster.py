"""`--on`: run the command on a Ray cluster."""

import sys

from tinyslm.core.cluster import THIS_CLUSTER, is_remote, submit
from tinyslm.core.console import stream


def run_remotely(on: str) -> None:
    """If `--on` names a remote cluster, run this command there as a job, show its output, and exit with its code."""
    if is_remote(on):
        arguments = [
            THIS_CLUSTER if word == on else word.replace(f"--on={on}", f"--on={THIS_CLUSTER}") for word in sys.argv[1:]
        ]
        sys.exit(submit(on, arguments, stream))


def run_on_hosts(on: str, processes: int) -> None:
    """If `--on` is given, run this command in `processes` processes on the cluster; exit with the code of rank 0."""
    run_remotely(on)
    if on:
        from tinyslm.training.ray_launcher import run_on_ray

        sys.exit(run_on_ray(processes, worker_arguments(sys.argv[1:])))


def worker_arguments(arguments: list[str]) -> list[str]:
    """The arguments of each process: these without `--on` and `--world`."""
    left: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in ("--on", "--world"):
            next(words, None)
        elif not word.startswith(("--on=", "--world=")):
            left.append(word)
    return left
