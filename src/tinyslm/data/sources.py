"""Find and open the files and other inputs that the user's paths name."""

from __future__ import annotations

import fnmatch
import glob
import gzip
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, cast

import xxhash

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import MANIFEST, in_home, sha256_json
from tinyslm.core.json_files import read_json
from tinyslm.data.charset import utf8_stream
from tinyslm.data.compressed import ZstdStream
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Tally
from tinyslm.data.object_storage import Stored, find_stored, is_remote, open_stored, read_blocks

STDIN = "-"
HUB = "hf://"
COMPRESSED = (".gz", ".zst")
BLOCK = 1 << 20  # bytes read at a time


@dataclass(frozen=True, slots=True)
class Source:
    """One input: a file, one in object storage, standard input, or a data set of the hub."""

    name: str  # the path that `Input` opens, also for messages
    origin: int  # index of the user's path
    size: int | None  # bytes as stored; None if unknown
    named: bool = False  # the user named this file, not a folder or a pattern
    changed: int = 0  # when a file in object storage was written

    @property
    def suffix(self) -> str:
        """The suffix of the name without compression: `.jsonl` for `a.jsonl.gz`; `HUB` for a data set of the hub."""
        if self.name.startswith(HUB):
            return HUB
        path = Path(self.name)
        return (path.with_suffix("") if path.suffix in COMPRESSED else path).suffix.lower()


def find_sources(
    paths: Sequence[str], tallies: Sequence[Tally], config: DataConfig, out: Path | None = None
) -> list[Source]:
    """All sources in `paths` (files, folders, globs, also `s3://...`; `-`, `hf://NAME`), in a fixed order.

    Hidden files, matches of `config.exclude`, and broken links are left out and counted in the tally of their path. The
    folder `out` is left out too. A link to a folder is followed unless that folder is read anyway.
    Raises `TinyslmError` for a path that does not exist or contains no file.
    """
    if not paths:
        raise TinyslmError("No text was given.", "Name files or folders of text, or - for standard input.")
    search = _Search(config.exclude, out.resolve() if out else None)
    found: list[list[Path | Stored] | None] = [
        None if path == STDIN or path.startswith(HUB) else list(search.files(path, tally))
        for path, tally in zip(paths, tallies, strict=True)
    ]
    for tally, folder in search.links:  # grows: there may be links in linked folders
        origin = next(number for number, one in enumerate(tallies) if one is tally)
        found[origin] = [*(found[origin] or ()), *search.linked_files(folder, tally)]
    for pattern in search.unused_patterns():
        tallies[0].add("unused_exclude", pattern)
    sources: list[Source] = []
    for origin, (path, files, tally) in enumerate(zip(paths, found, tallies, strict=True)):
        if files is None:
            sources.append(Source(path, origin, None))
            continue
        if not files:
            raise _no_file(path, tally)
        sources += [_source(one, origin, path) for one in files]
    return sources


def _source(file: Path | Stored, origin: int, given: str) -> Source:
    """The source for a file that was found at a path which the user gave."""
    if isinstance(file, Stored):
        return Source(file.url, origin, file.size, file.url == given, file.changed)
    return Source(str(file), origin, file.stat().st_size if file.is_file() else None, file == in_home(given))


def _no_file(path: str, tally: Tally) -> TinyslmError:
    kinds = {
        "hidden_files": ("hidden file", "hidden files"),
        "excluded": ("excluded file or folder", "excluded files and folders"),
        "broken_links": ("broken link", "broken links"),
    }
    numbers = [(tally.counts[kind], names) for kind, names in kinds.items() if tally.counts[kind]]
    left_out = ", ".join(f"{number} {one if number == 1 else several}" for number, (one, several) in numbers)
    return TinyslmError(
        f"{path} has no file to read" + (f" (skipped: {left_out})." if left_out else "."),
        "Give a folder that has text files in it, or the files themselves.",
    )


class _Search:
    """Finds files. `links`: links to folders found so far, each with the tally of the user's path."""

    def __init__(self, patterns: Sequence[str], out: Path | None) -> None:
        self.links: list[tuple[Tally, Path]] = []
        self._patterns = {pattern: f"*/{pattern.removeprefix('**/').strip('/')}" for pattern in patterns}
        self._used: set[str] = set()
        self._out = out
        self._walked: set[str] = set()  # real paths of folders

    def files(self, given: str, tally: Tally) -> Iterator[Path | Stored]:
        """Yield the files that one of the user's paths names. Raises `TinyslmError` if nothing exists there."""
        if is_remote(given):
            yield from self._stored_files(given, tally)
            return
        path = in_home(given)
        if path.is_dir():
            yield from self._files_below(path, tally)
            return
        matches = [path]
        if not path.exists():
            matches = sorted(map(Path, glob.glob(str(path), recursive=True))) if glob.has_magic(given) else []  # noqa: PTH207
            if not matches:
                what = f"Nothing matches {given}." if glob.has_magic(given) else f"{given} does not exist."
                raise TinyslmError(what, "Check the path; relative paths start at the current folder.")
        for match in matches:
            if not match.is_dir() and not self._excluded(match, tally):
                yield match

    def _stored_files(self, given: str, tally: Tally) -> Iterator[Stored]:
        """The same in object storage, in the order that a local copy would have."""
        found = find_stored(given)
        root = given.rstrip("/") + "/"
        if not all(one.url.startswith(root) for one in found):  # a file, or the matches of a pattern
            yield from (one for one in found if not self._excluded(PurePosixPath(one.url), tally))
            return
        tree: dict[str, Any] = {}  # files by their names, folders by theirs with a slash
        for one in found:
            *folders, name = one.url.removeprefix(root).split("/")
            place = tree
            for folder in folders:
                place = place.setdefault(f"{folder}/", {})
            place[name] = one
        yield from self._stored_below(root, PurePosixPath(), tree, tally)

    def _stored_below(self, root: str, parent: PurePosixPath, tree: dict[str, Any], tally: Tally) -> Iterator[Stored]:
        for name, one in sorted(tree.items(), key=lambda item: (item[0].endswith("/"), item[0].rstrip("/"))):
            path, is_file = parent / name, isinstance(one, Stored)
            if name.startswith("."):
                tally.add("hidden_files" if is_file else "hidden_folders", f"{root}{path}")
            elif self._excluded(path, tally):
                pass
            elif is_file:
                yield one
            elif not _is_ours_stored(name, one):
                yield from self._stored_below(root, path, one, tally)

    def linked_files(self, folder: Path, tally: Tally) -> Iterator[Path]:
        """Yield the files below a link to a folder, unless that folder was walked before under any name."""
        if not _is_ours(folder):
            yield from self._files_below(folder, tally, again=False)

    def unused_patterns(self) -> list[str]:
        """The patterns that matched nothing."""
        return [pattern for pattern in self._patterns if pattern not in self._used]

    def _excluded(self, path: PurePath, tally: Tally) -> bool:
        place = "/" + path.as_posix().lstrip("/")
        for given, pattern in self._patterns.items():
            if fnmatch.fnmatchcase(place, pattern) or fnmatch.fnmatchcase(place, f"{pattern}/*"):
                self._used.add(given)
                tally.add("excluded", str(path))
                return True
        return False

    def _files_below(self, folder: Path, tally: Tally, *, again: bool = True) -> Iterator[Path]:
        """Yield the files below a folder. again: also in folders that were walked before."""

        def unreadable_folder(error: OSError) -> None:
            tally.add("unreadable_folders", str(error.filename))

        for parent, folders, names in os.walk(folder, onerror=unreadable_folder):
            real = os.path.realpath(parent)
            if real in self._walked and not again:
                folders.clear()
                continue
            self._walked.add(real)
            folders[:] = [name for name in sorted(folders) if self._wanted(Path(parent, name), tally)]
            for name in sorted(names):
                file = Path(parent, name)
                if name.startswith("."):
                    tally.add("hidden_files", str(file))
                elif self._excluded(file.relative_to(folder), tally):
                    pass
                elif file.is_file():
                    yield file
                elif file.is_symlink():
                    tally.add("broken_links", str(file))

    def _wanted(self, folder: Path, tally: Tally) -> bool:
        """Whether to walk a subfolder. Links to folders are added to `links` and followed later."""
        if folder.name.startswith("."):
            tally.add("hidden_folders", str(folder))
            return False
        if self._excluded(folder, tally) or folder.resolve() == self._out:
            return False
        if folder.is_symlink():
            self.links.append((tally, folder))
            return False
        return not _is_ours(folder)


def _is_ours(folder: Path) -> bool:
    """Whether a folder is a run folder, a model folder, shards or Python's byte code, not text of the user."""
    if folder.name == "__pycache__" or (folder / "model.safetensors").is_file():
        return True
    if (folder / "metrics.jsonl").is_file() and (folder / "checkpoints").is_dir():
        return True
    try:
        return _lists_files(read_json(folder / MANIFEST))
    except TinyslmError:  # there is none, or it is not one of ours
        return False


def _is_ours_stored(name: str, tree: dict[str, Any]) -> bool:
    """The same of a folder in object storage. tree: its files, and the trees of its folders."""
    if name == "__pycache__/" or "model.safetensors" in tree or {"metrics.jsonl", "checkpoints/"} <= tree.keys():
        return True
    try:
        return MANIFEST in tree and _lists_files(json.loads(b"".join(read_blocks(tree[MANIFEST].url))))
    except ValueError:
        return False


def _lists_files(manifest: Any) -> bool:
    """Whether a manifest is one of ours."""
    files = manifest.get("files") if isinstance(manifest, dict) and {"kind", "inputs"} <= manifest.keys() else None
    return isinstance(files, dict) and all(isinstance(one, dict) and "sha256" in one for one in files.values())


class Input:
    """A source, opened at the first use of `stream`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._raw: BinaryIO | None = None

    @cached_property
    def stream(self) -> BinaryIO:
        """The decompressed content."""
        if self.source.name == STDIN:
            return sys.stdin.buffer
        path = Path(self.source.name)
        self._raw = raw = open_stored(self.source.name) if is_remote(self.source.name) else path.open("rb")
        if path.suffix == ".gz":
            return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
        if path.suffix == ".zst":
            return io.BufferedReader(ZstdStream(raw), BLOCK)
        return raw

    def utf8(self, config: DataConfig, tally: Tally) -> BinaryIO:
        """The content as UTF-8 without a byte order mark; empty if it is not text.

        tally: counts what is guessed, skipped or replaced. Reading raises `TinyslmError` at undecodable bytes with
        `config.strict`.
        """
        return utf8_stream(self.stream, self.source.name, config.encoding, tally, strict=config.strict)

    def position(self) -> int:
        """Bytes of the source read so far, as stored; 0 if unknown."""
        return self._raw.tell() if self._raw and self.source.size is not None else 0

    def close(self) -> None:
        """Close the file."""
        if self._raw:
            self._raw.close()


def fingerprint(sources: Sequence[Source]) -> str | None:
    """A hash of names and contents of all sources, or None if they cannot be read twice (standard input, pipes).

    Of a data set of the hub, only the name is hashed; of one in a local folder, the files; of a file in object storage,
    its size and the time of its last change. Raises `TinyslmError` for unreadable files.
    """
    parts: list[tuple[str, str]] = []
    for source in sources:
        if is_remote(source.name):
            parts.append((source.name, f"{source.size} {source.changed}"))
            continue
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
    """The `TinyslmError` for an error while reading a source."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return TinyslmError(
        f"Could not read {name}: {reason}.", "Check its permissions and that it is whole, or leave the file out."
    )
