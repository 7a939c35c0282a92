"""Libraries that were compiled ahead, for processors of several kinds: an image has them in place of a compiler.

They lie in the package itself, in a folder for each kind, under a name that tells their source and options.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "prebuilt"


@dataclass(frozen=True)
class ProcessorKind:
    """What a library is compiled for. machines: as `platform.machine` calls them. options: the compiler's. needs: what
    `/proc/cpuinfo` must list for the library to run.
    """

    name: str
    machines: frozenset[str]
    options: Sequence[str]
    needs: frozenset[str]


X86 = frozenset({"x86_64", "AMD64"})
ARM = frozenset({"aarch64", "arm64"})
_V3 = frozenset(["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "abm"])
_V4 = _V3 | frozenset(["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"])

KINDS = (
    ProcessorKind("x86-64-v4-bf16", X86, ("-march=x86-64-v4", "-mavx512bf16"), _V4 | {"avx512_bf16"}),
    ProcessorKind("x86-64-v4", X86, ("-march=x86-64-v4",), _V4),
    ProcessorKind("x86-64-v3", X86, ("-march=x86-64-v3",), _V3),
    ProcessorKind("armv8", ARM, ("-march=armv8-a",), frozenset({"asimd"})),
)
"""Those that images have libraries for, of one machine the fastest first; on others, PyTorch computes."""


def kinds_here() -> list[ProcessorKind]:
    """The kinds of this machine's architecture, whether its processor can run them or not."""
    return [kind for kind in KINDS if platform.machine() in kind.machines]


def find_prebuilt(name: str, flags: frozenset[str], folder: Path = FOLDER) -> Path | None:
    """The fastest library of this name that a processor with these flags can run; `None` if there is none."""
    if not folder.is_dir():
        return None
    fitting = (folder / kind.name / name for kind in kinds_here() if kind.needs <= flags)
    return next((path for path in fitting if path.is_file()), None)
