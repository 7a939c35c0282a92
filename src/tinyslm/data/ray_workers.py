"""Workers on the hosts of a Ray cluster."""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from tinyslm.core.cluster import join_cluster
from tinyslm.core.errors import TinyslmError

Task = TypeVar("Task")
Result = TypeVar("Result")

RETRIES = 5
"""How often a task is retried after its worker or host has died. It writes the same files again."""
_MARK = ".seen-by-all-hosts"


class RayWorkers:
    """The same interface as `Workers`, on the cluster of this host (`ray start`, or a Ray job).

    folder: where tasks write files; all hosts must see it at the same path. A task takes one core.
    """

    def __init__(self, folder: Path) -> None:
        join_cluster(log_to_driver=False)
        self._check_hosts(folder)

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Apply `function` to each task, and yield the results in order; at most two tasks per core are in progress.

        `function` must be importable on all hosts. Raises its exceptions, and `TinyslmError` if workers keep dying.
        """
        import ray

        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(function)
        ahead = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting: deque[Any] = deque()
        for task in tasks:
            waiting.append(remote.remote(task))
            if len(waiting) > ahead:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())

    def __enter__(self) -> RayWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()

    def _check_hosts(self, folder: Path) -> None:
        """Raise `TinyslmError` if a host has another version of tinyslm, or does not share the folder."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / _MARK
        mark.touch()
        look = ray.remote(num_cpus=0)(_look)
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        replies = [
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                str(mark.resolve())
            )
            for node in nodes
        ]
        ours = version("tinyslm")
        for host, theirs, seen in map(_result, replies):
            if theirs != ours:
                raise TinyslmError(f"{host} has tinyslm {theirs}, this host {ours}.", "Install one version everywhere.")
            if not seen:
                raise TinyslmError(
                    f"{host} does not see {folder}.", "Give --out a path on a file system that all hosts share."
                )
        mark.unlink()


def _look(mark: str) -> tuple[str, str, bool]:
    return platform.node(), version("tinyslm"), Path(mark).is_file()


def _result(reference: Any) -> Any:
    """The result of a task. Raises the task's exception, or `TinyslmError` if it did not run to its end."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from None
        raise
    except (ray.exceptions.RayError, ModuleNotFoundError) as error:
        raise TinyslmError(
            f"A task on the cluster failed: {str(error).strip().splitlines()[0][:300]}",
            "Look at the cluster (ray status); tinyslm has to be installed on every host. Then run again.",
        ) from None
