"""Compiles C++ for this processor when it is first used.

A library lies in the user's cache folder under a name that tells its source, compiler, options and processor, so that
it is compiled once.
"""

import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from tinyslm.core.console import notice, warn
from tinyslm.hardware.machine import read_flags, read_processor
from tinyslm.hardware.prebuilt import FOLDER, find_prebuilt, kinds_here

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

OPTIONS = ("-O2", "-std=c++17", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread", "-Wno-psabi")
NATIVE = ("-march=native",) if platform.machine() in ("x86_64", "AMD64") else ("-mcpu=native",)
SHARED = Path(__file__).parent / "cpp"  # headers for all sources
PATIENCE = 300  # seconds for the compiler
NAMES = {"step": "the engine", "kernels": "the training kernels"}
INSTALL = (
    "With one, generating is some ten times as fast. Install it: "
    "apt install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora), xcode-select --install (macOS)."
)


class NotAvailable(Exception):
    """Something native cannot be had on this machine; the message says why."""


def build(source: Path, processor: Sequence[str] = NATIVE, folder: Path | None = None, *, variant: str = "") -> Path:
    """The library of `source` (with the files in its folder and in `SHARED`), compiled unless it is there already, in
    the cache or, for this processor, among those that were compiled ahead (`build_ahead`).

    processor: the compiler's options for it. folder: where the library lies; by default in the user's cache folder.
    variant: which one of several libraries of `source` this is, for the user.
    Safe with several processes at once. Raises `NotAvailable` without a compiler, when it fails, or when the folder is
    not safely the user's own.
    """
    if processor[: len(NATIVE)] == NATIVE and folder is None:
        ahead = find_prebuilt(_prebuilt_name(source, processor[len(NATIVE) :]), read_flags())
        if ahead is not None:
            return ahead
    if fcntl is None:
        raise NotAvailable("on this system, nothing is compiled")
    try:
        command = [*compiler(), *processor, *OPTIONS, f"-I{SHARED}"]
    except NotAvailable as missing:
        reason = str(missing)
        _warn_once(f"{reason[0].upper()}{reason[1:]}, so PyTorch computes everything, which is slower. {INSTALL}")
        raise
    folder = private(folder or cache_folder())
    path = folder / f"{source.stem}-{_key(command, source.parent)}.so"
    if _is_ours(path):
        return path
    with path.with_suffix(".lock").open("w") as lock:  # one for each library: several may be compiled at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_ours(path):
            what = " ".join([NAMES.get(source.stem, source.stem), *([variant] if variant else [])])
            notice(f"Compiling {what} for this processor, once (about 10 s).")
            _compile(command, source, path)
    return path


def build_ahead(source: Path, further: Sequence[str] = (), folder: Path = FOLDER) -> list[Path]:
    """Compile `source` with further options for all kinds of processors of this architecture; `build` finds them.

    Raises `NotAvailable` without a compiler, or when it fails.
    """
    made = []
    for kind in kinds_here():
        path = folder / kind.name / _prebuilt_name(source, further)
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile([*compiler(), *kind.options, *further, *OPTIONS, f"-I{SHARED}"], source, path, mode=0o755)
        made.append(path)
    return made


def _prebuilt_name(source: Path, further: Sequence[str]) -> str:
    digest = _sources_digest(source.parent)
    digest.update(repr([*further]).encode())
    return f"{source.stem}-{digest.hexdigest()[:20]}.so"


def compiler() -> list[str]:
    """The system's C++ compiler: `$CXX`, g++ or clang++. Raises `NotAvailable`."""
    given = shlex.split(os.environ.get("CXX", ""))
    for command in [given] if given else [["g++"], ["clang++"], ["c++"]]:
        found = shutil.which(command[0])
        if found:
            return [found, *command[1:]]
    raise NotAvailable("there is no C++ compiler" + (f" {given[0]}" if given else " (g++ or clang++)"))


def cache_folder() -> Path:
    """Where compiled libraries lie."""
    return user_cache() / "native"


def user_cache() -> Path:
    """The user's cache folder, for files that can be made again.

    If there is none, or it cannot be written, a temporary folder is used instead, with one warning.
    """
    try:
        return private(_usual_cache())
    except NotAvailable as problem:
        folder = Path(gettempdir(), f"tinyslm-{os.getuid()}")
        _warn_once(f"No cache folder can be used ({problem}): {folder} is used, and may be emptied at any time.")
        return folder


def _usual_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "tinyslm"
    except RuntimeError as error:  # HOME is not set, and the system does not know the user
        raise NotAvailable("this user has no home folder") from error


@cache
def _warn_once(text: str) -> None:
    warn(text)


def private(folder: Path) -> Path:
    """The folder, made where it is missing. Raises `NotAvailable` where it is not safely the user's own."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(folder) or not os.access(folder, os.W_OK):
            raise NotAvailable(f"others than you can write to {folder}, or you cannot")
    except OSError as error:
        raise NotAvailable(f"{folder} cannot be used: {error.strerror}") from error
    return folder


def _is_ours(path: Path) -> bool:
    """Whether it exists, belongs to this user, and is not for everybody to write."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return found.st_uid == os.getuid() and not found.st_mode & stat.S_IWOTH


def _key(command: Sequence[str], sources: Path) -> str:
    """Of everything that decides what the library is."""
    digest = _sources_digest(sources)
    version = subprocess.run([command[0], "--version"], capture_output=True, check=False)  # noqa: S603
    digest.update(repr((command, version.stdout, read_processor())).encode())
    return digest.hexdigest()[:20]


def _sources_digest(sources: Path) -> "hashlib._Hash":
    digest = hashlib.sha256()
    for path in sorted([*sources.glob("*.h"), *sources.glob("*.cpp"), *SHARED.glob("*.h")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest


def _compile(command: Sequence[str], source: Path, path: Path, mode: int = 0o700) -> None:
    with TemporaryDirectory(dir=path.parent) as name:
        made = Path(name) / path.name
        whole = [*command, str(source), "-o", str(made)]
        try:
            result = subprocess.run(whole, capture_output=True, text=True, timeout=PATIENCE, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotAvailable(f"the C++ compiler failed: {error}") from error
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()
            raise NotAvailable(f"the C++ compiler failed: {(lines or ['no message'])[0]}")
        made.chmod(mode)
        made.replace(path)
