"""Memory that stays with the process: large tensors come and go in every training step.

By default the C library returns each freed large block to the system and asks for it again, and the system clears every
page of it each time. Keeping freed memory saves 5 to 10 % of a training step (docs/LOG.md).
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed, for the rest of the process; False where it is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 * 2**20))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)


def return_freed_memory() -> bool:
    """Give what is free back to the system after all, once; False where it is not glibc."""
    return platform.libc_ver()[0] == "glibc" and ctypes.CDLL("libc.so.6").malloc_trim(0) == 1
