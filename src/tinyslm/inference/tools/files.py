"""Tools that list, read, search and, if wanted, write text files below one folder, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from tinyslm.core.text_files import byte_order_mark
from tinyslm.inference.tools.folder import SafeFolder
from tinyslm.inference.tools.tool import Tool, ToolError

MOST_READ = 1 << 20  # bytes of a file that are looked at
MOST_LINES = 200  # given at once
MOST_ENTRIES = 200  # of a folder
MOST_FOUND = 50  # lines
MOST_SEARCHED = 64 << 20  # bytes of all files
MOST_WRITTEN = 1 << 20  # bytes

Line = Annotated[int, Field(ge=1)]


def file_tools(folder: str | Path, *, write: bool = False) -> list[Tool]:
    """`list_files`, `read_file`, `search_files` and, with `write`, `write_file`, for what is below `folder`.

    Raises `TinyslmError` where there is no such folder.
    """
    files = _Files(SafeFolder(folder))
    functions: list[Callable[..., str]] = [
        files.list_files,
        files.read_file,
        files.search_files,
        *([files.write_file] if write else []),
    ]
    return [Tool.from_function(function) for function in functions]


def read_text(folder: SafeFolder, path: str) -> str:
    """A text file's content; raises `ToolError` for one that is not text or is too large."""
    content, size = folder.read(path, MOST_READ)
    if size > MOST_READ:
        raise ToolError(f"{path} is too large: {size} bytes, at most {MOST_READ} are read.")
    encoding, start = byte_order_mark(content)
    if not encoding and b"\0" in content:
        raise ToolError(f"{path} is not a text file.")
    try:
        return content[start:].decode(encoding or "utf-8")
    except UnicodeDecodeError:
        raise ToolError(f"{path} is not text in {(encoding or 'utf-8').upper()}.") from None


class _Files:
    """The tools' functions; their docstrings are what the model reads."""

    def __init__(self, folder: SafeFolder) -> None:
        self._folder = folder

    def list_files(self, folder: str = "") -> str:
        """List a folder's files with their sizes in bytes, and its folders.

        Args:
            folder: its path; empty: the folder above all others.
        """
        entries = self._folder.entries(folder)
        lines = [
            f"{one.path}/" if one.kind == "folder" else f"{one.path}  {_size(one.kind, one.size)}" for one in entries
        ]
        more = [f"... and {len(lines) - MOST_ENTRIES} more"] if len(lines) > MOST_ENTRIES else []
        return "\n".join(lines[:MOST_ENTRIES] + more) or "The folder is empty."

    def read_file(self, path: str, first_line: Line = 1) -> str:
        """Read a text file.

        Args:
            path: the file, as list_files names it.
            first_line: where to begin.
        """
        lines = read_text(self._folder, path).splitlines()
        if first_line > max(1, len(lines)):
            raise ToolError(f"{path} has only {len(lines)} lines.")
        given = lines[first_line - 1 : first_line - 1 + MOST_LINES]
        last = first_line - 1 + len(given)
        more = [f"... {len(lines) - last} more lines, from line {last + 1}"] if last < len(lines) else []
        return "\n".join(given + more) or "The file is empty."

    def search_files(self, text: str, folder: str = "") -> str:
        """Find the lines of text files that contain a text; capital and small letters are the same.

        Args:
            text: what to look for.
            folder: where to look; empty: everywhere.
        """
        if not text.strip():
            raise ToolError("Give a text to look for.")
        found: list[str] = []
        searched = 0
        for entry in self._folder.walk(folder):
            searched += min(entry.size, MOST_READ)
            if searched > MOST_SEARCHED or len(found) > MOST_FOUND:
                break
            try:
                lines = read_text(self._folder, entry.path).splitlines()
            except ToolError:  # no text, or too large
                continue
            folded = text.casefold()
            found += [
                f"{entry.path}:{n}: {line.strip():.200}" for n, line in enumerate(lines, 1) if folded in line.casefold()
            ]
        more = ["... and more: look for something rarer"] if len(found) > MOST_FOUND else []
        more += ["... not all files were searched: name a folder"] if searched > MOST_SEARCHED else []
        return "\n".join(found[:MOST_FOUND] + more) or "Nothing found."

    def write_file(self, path: str, text: str) -> str:
        """Write a text file; one that exists is replaced.

        Args:
            path: the file, such as notes/today.txt.
            text: what it will hold.
        """
        content = text.encode("utf-8", "replace")
        if len(content) > MOST_WRITTEN:
            raise ToolError(f"The text has {len(content)} bytes; at most {MOST_WRITTEN} are written.")
        self._folder.write(path, content)
        return f"Wrote {len(content)} bytes to {path}."


def _size(kind: str, size: int) -> str:
    return f"{size}" if kind == "file" else f"({kind})"
