"""Run a command on a Ray cluster, as a job (https://docs.ray.io/en/latest/cluster/running-applications/job-submission)."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinyslm.core.errors import TinyslmError, require_extra

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

HERE = "ray"
"""`--on ray`: the program runs on the cluster already; its work is placed on all of the cluster's hosts."""
FAR = "ray://"
PORT = 8265
"""Of Ray's dashboard, which takes jobs."""


def is_far(on: str) -> bool:
    """Whether `--on` names the host of a cluster. Raises `TinyslmError` for what is neither that nor `HERE`."""
    if on not in ("", HERE) and not (on.startswith(FAR) and on != FAR):
        raise TinyslmError(f"--on {on} is no Ray cluster.", "Give --on ray://HOST, or on a host of a cluster: --on ray")
    return on.startswith(FAR)


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
    """A connection to what takes a cluster's jobs. Raises `TinyslmError` if there is none."""
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        raise require_extra("cluster", "A Ray cluster") from None
    host, _, port = on.removeprefix(FAR).partition(":")
    try:
        return JobSubmissionClient(f"http://{host}:{port or PORT}")
    except (ConnectionError, RuntimeError) as error:
        raise TinyslmError(
            f"No Ray cluster takes jobs at {host}:{port or PORT}: {str(error).strip().splitlines()[0][:200]}",
            f"Start one with `ray start --head` on {host}, or give the port of its dashboard: --on {FAR}{host}:PORT",
        ) from None


async def _follow(client: JobSubmissionClient, job: str, show: Callable[[str], None]) -> None:
    async for lines in client.tail_job_logs(job):
        show(lines)
