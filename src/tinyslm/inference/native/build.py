"""The native step's library."""

import ctypes
from functools import cache
from pathlib import Path

from tinyslm.hardware.compiling import NotAvailable, build

SOURCE = Path(__file__).parent / "step.cpp"


def available() -> str | None:
    """Why the native step cannot be had on this machine; `None` where it can. Compiles it if need be."""
    try:
        library()
    except NotAvailable as error:
        return str(error)
    return None


@cache
def library() -> ctypes.CDLL:
    """The compiled step for this processor. Raises `NotAvailable`."""
    return load(build(SOURCE))


def load(path: Path) -> ctypes.CDLL:
    """A compiled step with the types of its functions. Raises `NotAvailable`."""
    try:
        found = ctypes.CDLL(str(path))
    except OSError as error:
        raise NotAvailable(f"{path} cannot be loaded: {error}") from error
    found.tinyslm_open.restype = ctypes.c_void_p
    found.tinyslm_open.argtypes = [ctypes.c_void_p]
    found.tinyslm_close.argtypes = [ctypes.c_void_p]
    found.tinyslm_close.restype = None
    found.tinyslm_run.argtypes = [ctypes.c_void_p] * 3
    found.tinyslm_draw.argtypes = [ctypes.c_void_p] * 3
    found.tinyslm_draw.restype = None
    return found
