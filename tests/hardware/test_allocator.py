"""Freed memory is kept where the C library can be told to."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
from tinyslm.hardware.allocator import keep_freed_memory
import psutil
def grown():
    before = psutil.Process().memory_info().rss
    block = bytearray(64 * 2**20)
    del block
    return psutil.Process().memory_info().rss - before
returned = grown()
assert keep_freed_memory()
kept = grown()
print(returned, kept)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_freed_memory_is_kept() -> None:
    output = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
    returned, kept = map(int, output.split())
    assert returned < 8 * 2**20
    assert kept > 56 * 2**20
