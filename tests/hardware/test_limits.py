import os

import psutil
import pytest

from tinyslm.hardware.limits import cpu_quota, memory_bytes, memory_limit, usable_cores


@pytest.fixture
def control_groups(tmp_path):
    """Write a control-group tree: `control_groups(membership_text, {file: content})` gives its root and membership."""

    def write(membership: str, files: dict[str, str]):
        for name, content in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content + "\n")
        (tmp_path / "membership").write_text(membership)
        return tmp_path / "cgroup", tmp_path / "membership"

    return write


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "200000 100000"}, 2.0),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000", "cpu.max": "400000 100000"}, 1.5),
        ("0::/of/the/host\n", {"cpu.max": "50000 100000"}, 0.5),
        ("4:cpu:/x\n0::/\n", {"cpu/x/cpu.cfs_quota_us": "300000", "cpu/x/cpu.cfs_period_us": "100000"}, 3.0),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("5:cpu,cpuacct:/\n", {"cpu,cpuacct/cpu.cfs_quota_us": "100", "cpu,cpuacct/cpu.cfs_period_us": "100"}, 1.0),
        ("0::/\n", {}, None),
    ],
    ids=["v2", "v2 unlimited", "v2 nested", "v2 in a container", "v1", "v1 unlimited", "v1 joined", "none"],
)
def test_cpu_quota(control_groups, membership, files, quota):
    assert cpu_quota(*control_groups(membership, files)) == quota


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        (
            "0::/\n",
            {"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 300\ninactive_file 400"},
            (1000, 300),
        ),
        ("0::/\n", {"memory.max": "max", "memory.current": "700"}, None),
        (
            "0::/a\n",
            {"a/memory.max": "1000", "a/memory.current": "0", "memory.max": "2000", "memory.current": "1900"},
            (2000, 1900),
        ),
        (
            "4:memory:/x\n",
            {
                "memory/x/memory.limit_in_bytes": "5000",
                "memory/x/memory.usage_in_bytes": "1000",
                "memory/x/memory.stat": "inactive_file 1\ntotal_inactive_file 600",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/memory.usage_in_bytes": "9000",
            },
            (5000, 400),
        ),
        ("0::/\n", {}, None),
    ],
    ids=["v2", "v2 unlimited", "v2 least left", "v1", "none"],
)
def test_memory_limit(control_groups, membership, files, limit):
    assert memory_limit(*control_groups(membership, files)) == limit


def test_without_control_groups(tmp_path):
    assert cpu_quota(tmp_path, tmp_path / "absent") is None
    assert memory_limit(tmp_path, tmp_path / "absent") is None


def test_cores_follow_quota_and_affinity(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    for quota, cores in [(None, 4), (2.5, 3), (0.1, 1), (64.0, 4)]:
        monkeypatch.setattr("tinyslm.hardware.limits.cpu_quota", lambda quota=quota: quota)
        assert usable_cores() == cores


def test_memory_follows_the_smaller_limit(monkeypatch):
    monkeypatch.setattr("tinyslm.hardware.limits.memory_limit", lambda: (1 << 20, 1 << 19))
    assert memory_bytes() == (1 << 20, 1 << 19)
    monkeypatch.setattr("tinyslm.hardware.limits.memory_limit", lambda: None)
    assert memory_bytes()[0] == psutil.virtual_memory().total


def test_this_machine():
    total, available = memory_bytes()
    assert 0 < available <= total <= psutil.virtual_memory().total
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
