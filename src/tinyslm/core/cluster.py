"""Run a command on a Ray cluster, as a job (https://docs.ray.io/en/latest/cluster/running-applications/job-submission)."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError, require_extra

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

THIS_CLUSTER = "ray"
"""`--on ray`: the program runs on a host of the cluster already."""
SCHEME = "ray://"
PORT = 8265
"""The default port of Ray's dashboard, which accepts jobs."""


def is_remote(on: str) -> bool:
    """Whether `--on` is `ray://HOST`. Raises `TinyslmError` if it is neither that nor `THIS_CLUSTER` nor empty."""
    if on not in ("", THIS_CLUSTER) and not (on.startswith(SCHEME) and on != SCHEME):
        raise TinyslmError(f"--on {on} is not a Ray cluster.", "Give --on ray://HOST, or --on ray on one of its hosts.")
    return on.startswith(SCHEME)


def submit(on: str, arguments: Sequence[str], show: Callable[[str], None]) -> int:
    """Run `tinyslm` with these arguments on the cluster's first host, in the folder of the same path as this one.

    show: gets the output as it comes. Returns the exit code. Ctrl-C stops the job. Raises `TinyslmError` if the
    cluster cannot be reached.
    """
    client = connect(on)
    command = shlex.join(["python", "-m", "tinyslm", *arguments])
    job = client.submit_job(entrypoint=f"cd {shlex.quote(str(Path.cwd()))} && {command}")
    try:
        asyncio.run(_follow(client, job, show))
    except KeyboardInterrupt:
        client.stop_job(job)
        raise
    info = client.get_job_info(job)
    if info.driver_exit_code is None:
        raise TinyslmError(f"The job {job} has ended: {info.message}", "Look at the cluster: ray status")
    return int(info.driver_exit_code)


def connect(on: str) -> JobSubmissionClient:
    """A client of the cluster's job server. Raises `TinyslmError` if it cannot be reached."""
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        raise require_extra("cluster", "A Ray cluster") from None
    host, _, port = on.removeprefix(SCHEME).partition(":")
    try:
        return JobSubmissionClient(f"http://{host}:{port or PORT}")
    except (ConnectionError, RuntimeError) as error:
        raise TinyslmError(
            f"No Ray cluster accepts jobs at {host}:{port or PORT}: {str(error).strip().splitlines()[0][:200]}",
            f"Start one with `ray start --head` on {host}, or give the port of its dashboard: --on {SCHEME}{host}:PORT",
        ) from None


def join_cluster(**options: Any) -> None:
    """Connect this process to the cluster of its host. options: those of `ray.init`.

    Raises `TinyslmError` if Ray is not installed, or no cluster runs on this host.
    """
    try:
        import ray
    except ImportError:
        raise require_extra("cluster", "A Ray cluster") from None
    try:
        ray.init(address="auto", logging_level="error", ignore_reinit_error=True, **options)
    except ConnectionError:
        raise TinyslmError(
            "There is no Ray cluster on this host.",
            "Start one with `ray start --head`, or name the host of one: --on ray://HOST",
        ) from None


async def _follow(client: JobSubmissionClient, job: str, show: Callable[[str], None]) -> None:
    async for lines in client.tail_job_logs(job):
        show(lines)
