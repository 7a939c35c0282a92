"""Which files (and other inputs) the paths that a user gives stand for."""

from __future__ import annotations

import glob
import gzip
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, cast

import xxhash

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import MANIFEST, read_json, sha256_json
from tinyslm.data.charset import utf8_stream
from tinyslm.data.compressed import ZstdStream
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Tally

STDIN = "-"
HUB = "hf://"
COMPRESSED = (".gz", ".zst")
BLOCK = 1 << 20  # bytes read at a time


@dataclass(frozen=True, slots=True)
class Source:
    """One input: a file, standard input, or a data set of the hub."""

    name: str  # as messages call it, and as `Input` opens it
    origin: int  # position in the list of paths the user gave
    size: int | None  # bytes as stored; None when it cannot be known

    @property
    def suffix(self) -> str:
        """What the content is, by the name without its compression: `.jsonl` for `a.jsonl.gz`."""
        if self.name.startswith(HUB):
            return HUB
        path = Path(self.name)
        return (path.with_suffix("") if path.suffix in COMPRESSED else path).suffix.lower()


def find_sources(paths: Sequence[str], tallies: Sequence[Tally], exclude: Path | None = None) -> list[Source]:
    """Everything that `paths` (files, folders, globs, `-`, `hf://NAME`) stand for, in a fixed order.

    Hidden files are left out and counted in the tally of their path; so is the folder `exclude`.
    Raises `TinyslmError` for a path that does not exist, or has no file in it.
    """
    if not paths:
        raise TinyslmError("No text was given.", "Name files or folders of text, or - for standard input.")
    sources: list[Source] = []
    for origin, (path, tally) in enumerate(zip(paths, tallies, strict=True)):
        if path == STDIN or path.startswith(HUB):
            sources.append(Source(path, origin, None))
            continue
        files = list(_files(path, tally, exclude.resolve() if exclude else None))
        if not files:
            hidden = tally.counts["hidden_files"]
            raise TinyslmError(
                f"There is no file to read in {path}" + (f" ({hidden} hidden files were skipped)." if hidden else "."),
                "Give a folder that has text files in it, or the files themselves.",
            )
        sources += [Source(str(file), origin, file.stat().st_size if file.is_file() else None) for file in files]
    return sources


def _files(given: str, tally: Tally, exclude: Path | None) -> Iterator[Path]:
    path = Path(given).expanduser()
    if path.is_dir():
        yield from _files_below(path, tally, exclude)
    elif path.exists():
        yield path
    else:
        matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(given) else []  # noqa: PTH207
        if not matches:
            what = "Nothing matches" if glob.has_magic(given) else "There is no file or folder"
            raise TinyslmError(f"{what} {given}.", "Check the path; relative paths start at the current folder.")
        for match in map(Path, matches):
            if match.is_file():
                yield match


def _files_below(folder: Path, tally: Tally, exclude: Path | None) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        for name in [name for name in folders if name.startswith(".")]:
            tally.add("hidden_folders", str(Path(parent, name)))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and Path(parent, name).resolve() != exclude and not _is_ours(Path(parent, name))
        )
        for name in sorted(names):
            file = Path(parent, name)
            if name.startswith("."):
                tally.add("hidden_files", str(file))
            elif file.is_file():
                yield file


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds no text of the user's: a run folder, a model folder or shards, or Python's byte code."""
    if folder.name == "__pycache__" or (folder / "model.safetensors").is_file():
        return True
    if (folder / "metrics.jsonl").is_file() and (folder / "checkpoints").is_dir():
        return True
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return False
    content = read_json(manifest)
    return isinstance(content, dict) and {"kind", "inputs", "files"} <= content.keys()


class Input:
    """An opened source. `stream` gives its bytes, decompressed; it is opened when first used."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._raw: BinaryIO | None = None

    @cached_property
    def stream(self) -> BinaryIO:
        """The content, from its first byte on."""
        if self.source.name == STDIN:
            return sys.stdin.buffer
        path = Path(self.source.name)
        self._raw = raw = path.open("rb")
        if path.suffix == ".gz":
            return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
        if path.suffix == ".zst":
            return io.BufferedReader(ZstdStream(raw), BLOCK)
        return raw

    def utf8(self, config: DataConfig, tally: Tally) -> BinaryIO:
        """The content as UTF-8, whatever it is stored in, without a byte order mark; nothing where it is not text.

        What was guessed, skipped or replaced is counted in `tally`.
        """
        return utf8_stream(self.stream, self.source.name, config.encoding, tally, strict=config.strict)

    def position(self) -> int:
        """Bytes of the source, as stored, that were read so far; 0 where that cannot be known."""
        return self._raw.tell() if self._raw and self.source.size is not None else 0

    def close(self) -> None:
        """Close the file."""
        if self._raw:
            self._raw.close()


def fingerprint(sources: Sequence[Source]) -> str | None:
    """A hash over names and contents of all sources, or None when they cannot be read twice (standard input, pipes).

    A data set of the hub counts by its name; one in a local folder by its files.
    """
    parts: list[tuple[str, str]] = []
    for source in sources:
        if source.size is None and source.suffix != HUB:
            return None
        local = Path(source.name.removeprefix(HUB).partition(":")[0] if source.suffix == HUB else source.name)
        files = sorted(local.rglob("*")) if local.is_dir() else [local]
        parts += [(source.name, _content_hash(file)) for file in files if file.is_file()] or [(source.name, "")]
    return sha256_json(parts)


def _content_hash(file: Path) -> str:
    digest = xxhash.xxh3_128()
    try:
        with file.open("rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise unreadable(str(file), error) from error
    return digest.hexdigest()


def unreadable(name: str, error: Exception) -> TinyslmError:
    """An error while reading a source, as the user's error."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return TinyslmError(
        f"Could not read {name}: {reason}.", "Check its permissions and that it is whole, or leave the file out."
    )
