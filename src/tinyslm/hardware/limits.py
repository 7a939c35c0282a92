"""What this process may use of the machine: in a container, less than the machine has.

Linux says it in control groups: a folder per group, with one file per limit, in two layouts (version 1 and 2). Every
group that contains ours limits us too. `root` is where they are mounted; tests give a folder of their own.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from tinyslm.core.errors import TinyslmError

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """How many cores' worth of work can run at once: CPU affinity and the container's quota are respected."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def thread_count(asked: int) -> int:
    """So many threads; for 0 what OMP_NUM_THREADS says, as PyTorch takes it, or all cores.

    Raises `TinyslmError` for a negative number.
    """
    if asked < 0:
        raise TinyslmError(f"{asked} threads cannot compute.", "Give --threads a number from 1 on, or 0.")
    said = os.environ.get("OMP_NUM_THREADS", "").strip()
    return asked or (int(said) if said.isdecimal() else 0) or usable_cores()


def memory_bytes() -> tuple[int, int]:
    """Total and available memory in bytes: the machine's, or the container's limit where that is smaller."""
    import psutil

    memory = psutil.virtual_memory()
    total, available = int(memory.total), int(memory.available)
    limit = memory_limit()
    if limit is None:
        return total, available
    allowed, used = limit
    return min(total, allowed), max(0, min(available, allowed - used))


def cpu_quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """The cores' worth of time that control groups allow, or None without a limit."""
    quotas = []
    for folder in _groups("cpu", root, membership):
        if (line := _read(folder / "cpu.max")) is not None:  # version 2: "200000 100000" or "max 100000"
            quota, _, period = line.partition(" ")
        else:
            quota, period = _read(folder / "cpu.cfs_quota_us") or "-1", _read(folder / "cpu.cfs_period_us") or "0"
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_limit(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> tuple[int, int] | None:
    """The bytes that control groups allow and those in use (without file caches), or None without a limit.

    Of several limits, the one with the least left counts.
    """
    limits = []
    for folder in _groups("memory", root, membership):
        allowed = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes") or "max"
        used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes") or "0"
        if allowed.isdigit() and int(allowed) < 1 << 60:  # version 1 writes "no limit" as a number near 2^63
            limits.append((int(allowed), max(0, int(used) - _file_cache(folder))))
    return min(limits, key=lambda limit: limit[0] - limit[1], default=None)


def _groups(controller: str, root: Path, membership: Path) -> Iterator[Path]:
    """Folders of the groups that this process is in, and of those around them, in both versions.

    In a container the paths may be the host's, of which only the mounted root exists.
    """
    for line in (_read(membership) or "0::/").splitlines():
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        if controllers == "":
            mounts = [root, root / "unified"]
        elif controller in names:
            mounts = [root / controllers, root / controller]
        else:
            continue
        for mount in mounts:
            inner = mount / path.lstrip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(mount))


def _file_cache(folder: Path) -> int:
    """Bytes of files that the system keeps in memory and would give up for us."""
    statistics = dict(line.split(" ", 1) for line in (_read(folder / "memory.stat") or "").splitlines() if " " in line)
    return int(statistics.get("total_inactive_file") or statistics.get("inactive_file") or 0)


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
