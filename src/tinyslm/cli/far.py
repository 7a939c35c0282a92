"""`--on`: run the command on a Ray cluster."""

import sys

from tinyslm.core.cluster import HERE, is_far, submit
from tinyslm.core.console import stream


def run_far(on: str) -> None:
    """If `--on` names a cluster, run this command there, show what it says, and exit with its code."""
    if is_far(on):
        there = [HERE if word == on else word.replace(f"--on={on}", f"--on={HERE}") for word in sys.argv[1:]]
        sys.exit(submit(on, there, stream))


def run_on_hosts(on: str, processes: int) -> None:
    """If `--on` is given, run this command in so many processes on the cluster, and exit with the code of the first."""
    run_far(on)
    if on:
        from tinyslm.training.ray_launcher import run_on_ray

        sys.exit(run_on_ray(processes, without_on(sys.argv[1:])))


def without_on(arguments: list[str]) -> list[str]:
    """The command line of one of the processes."""
    left: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in ("--on", "--world"):
            next(words, None)
        elif not word.startswith(("--on=", "--world=")):
            left.append(word)
    return left
