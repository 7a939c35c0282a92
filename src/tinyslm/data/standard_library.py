"""Text that exists on every machine: the source and the documentation of the Python standard library."""

import sysconfig
from pathlib import Path

LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "_bundled", "__pycache__", "lib-dynload"}
"""Folders of tests, vendored and installed packages, and compiled files."""


def standard_library() -> list[str]:
    """The paths of its Python files, without tests, vendored packages and empty files: 11 MB in some 670 files."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = (path for path in root.rglob("*.py") if LEFT_OUT.isdisjoint(path.relative_to(root).parts))
    return [str(path) for path in sorted(files) if path.stat().st_size]


def documentation() -> list[str]:
    """Chapters of Python's language reference, from `help`: 0.5 MB of English with some code.

    Empty if Python was installed without them.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return []
    return list(topics.values())
