"""Facts about this machine, found without torch."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tinyslm.hardware.limits import memory_bytes, usable_cores

# Instructions that decide how fast training and generating are; "asimd" and "bf16" are what ARM calls its own.
FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "i8mm",
    "sve",
)
BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # fast products of bf16 matrices


@dataclass(frozen=True)
class Machine:
    """What this process finds itself on."""

    platform: str
    python: str
    processor: str
    features: tuple[str, ...]  # those of FEATURES that the processor has
    cores: int  # that this process may use
    all_cores: int  # that the machine has
    memory_bytes: int  # that this process may use
    available_memory_bytes: int
    compiler: str | None  # path of a C++ compiler
    free_disk_bytes: int  # where the current folder is


def examine_machine() -> Machine:
    """Look at this machine."""
    processor, features = read_processor()
    total, available = memory_bytes()
    return Machine(
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        processor=processor,
        features=features,
        cores=usable_cores(),
        all_cores=os.cpu_count() or 1,
        memory_bytes=total,
        available_memory_bytes=available,
        compiler=next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None),
        free_disk_bytes=shutil.disk_usage(Path.cwd()).free,
    )


def read_processor() -> tuple[str, tuple[str, ...]]:
    """The processor's name, and which of `FEATURES` it has; on systems that do not tell, its kind and none."""
    if sys.platform == "darwin":
        return _read_mac_processor()
    try:
        name, features = parse_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        name, features = "", ()
    return name or platform.processor() or platform.machine(), features


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Name and features of the first processor in Linux's `/proc/cpuinfo`; the name may be empty (ARM gives none)."""
    fields = _first_processor(text)
    flags = _flags(fields)
    return fields.get("model name", ""), tuple(feature for feature in FEATURES if feature in flags)


def read_flags() -> frozenset[str]:
    """Everything that Linux lists about the first processor; nothing on other systems."""
    try:
        return _flags(_first_processor(Path("/proc/cpuinfo").read_text(encoding="utf-8")))
    except OSError:
        return frozenset()


def _flags(fields: Mapping[str, str]) -> frozenset[str]:
    return frozenset((fields.get("flags") or fields.get("Features") or "").split())


def _first_processor(text: str) -> dict[str, str]:
    """The fields of the first processor in `/proc/cpuinfo`."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


def _read_mac_processor() -> tuple[str, tuple[str, ...]]:
    def ask(key: str) -> str:
        command = ["/usr/sbin/sysctl", "-n", key]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603

    keys = {"hw.optional.arm.FEAT_BF16": "bf16", "hw.optional.arm.FEAT_I8MM": "i8mm", "hw.optional.avx2_0": "avx2"}
    simd = ("asimd",) if platform.machine() == "arm64" else ()
    return ask("machdep.cpu.brand_string"), simd + tuple(name for key, name in keys.items() if ask(key) == "1")
