"""Read documents from paths: `read_documents`, and its two halves for several processes."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence

import tinyslm.data.html
import tinyslm.data.json_records
import tinyslm.data.tables  # noqa: F401  (they register their readers)
from tinyslm.core.errors import TinyslmError
from tinyslm.data.cleaning import clean, replace_surrogates
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import (
    Document,
    Notify,
    Progress,
    Tally,
    nothing_to_read,
    pieces_of_text,
    silent,
)
from tinyslm.data.object_storage import StorageError, is_remote, storage_error
from tinyslm.data.readers import READERS, TEXT, Chunk, reader_for
from tinyslm.data.sources import Input, Source, find_sources, unreadable


def read_documents(
    paths: Sequence[str], config: DataConfig | None = None, *, notify: Notify = silent
) -> Iterator[Document]:
    """Yield every document in `paths` (files, folders, globs, `-`, `hf://NAME`), cleaned, in constant memory.

    Files, folders and globs may be in object storage (`s3://...`). Documents over about 1 MB are yielded in pieces.
    notify: called at the end with warnings about skipped and replaced content. Raises `TinyslmError` when a path does
    not exist or there is no text at all.
    """
    config = config or DataConfig()
    tallies = [Tally() for _ in paths]
    found = False
    for chunk in read_chunks(find_sources(paths, tallies, config), config, tallies):
        for document in parse_chunk(chunk, config, tallies[chunk.origin]):
            found = True
            yield document
    tally = Tally()
    for each in tallies:
        tally.merge(each)
    if not found:
        raise nothing_to_read(paths, tally.counts.items())
    for warning in tally.warnings():
        notify(warning)


def read_chunks(
    sources: Sequence[Source], config: DataConfig, tallies: Sequence[Tally], progress: Progress = silent
) -> Iterator[Chunk]:
    """Yield the content of all sources, cut but not parsed. progress: called with the bytes read, as stored.

    Files that cannot be read are skipped and counted. If the user named such a file, with `config.strict`, if no file
    can be read, or if object storage does not answer, raises `TinyslmError`.
    """
    total = sum(source.size or 0 for source in sources)
    before, failed = 0, 0
    for source in sources:
        tally = tallies[source.origin]
        opened = Input(source)
        last: Chunk | None = None
        try:
            for last in _chunks_of(opened, config, tally):
                progress("read", before + opened.position(), total)
                yield last
        except TinyslmError as error:
            failed += 1
            needed = source.named or source.size is None or config.strict or failed == len(sources)
            if needed or isinstance(error, StorageError):
                raise
            tally.add("damaged_files" if last else "unreadable_files", error.problem.rstrip("."))
            if last and not last.last:  # end the unfinished document
                yield Chunk(TEXT, source.name, source.origin, last.first + 1)
        finally:
            opened.close()
        before += source.size or 0
        tally.counts["files"] += 1
        progress("read", before, total)


def _chunks_of(opened: Input, config: DataConfig, tally: Tally) -> Iterator[Chunk]:
    """Yield the chunks of a source. Raises `TinyslmError` if it cannot be read, or if it was named and has no text."""
    from zstandard import ZstdError

    source, empty = opened.source, True
    try:
        for chunk in reader_for(_kind(opened)).chunks(opened, config, tally):
            empty = False
            yield chunk
    except (OSError, EOFError, zlib.error, gzip.BadGzipFile, ZstdError) as error:
        if is_remote(source.name) and type(error) is OSError:
            raise storage_error(source.name, error) from error
        raise unreadable(source.name, error) from error
    if empty and source.named and tally.counts["long_records"]:
        what = f"{source.name} is longer than a record may be ({config.max_record_bytes} bytes)."
        raise TinyslmError(what, "Raise the limit: --data.max_record_bytes")
    if empty and source.named and not tally.counts["empty_files"]:  # empty files are only counted: globs name them too
        what = "is not text" if tally.counts["binary_files"] else "has no text in it"
        raise TinyslmError(f"{source.name} {what}.", "Leave it out, or give another file.")


def _kind(opened: Input) -> str:
    """The file type of a source by its suffix; standard input and pipes are JSON lines if the first line is."""
    source = opened.source
    if source.size is not None or source.suffix in READERS or not isinstance(opened.stream, io.BufferedReader):
        return source.suffix
    line, end, _ = opened.stream.peek(1).partition(b"\n")
    try:
        is_row = isinstance(json.loads(line), dict) if end else line.startswith(b'{"')
    except (ValueError, RecursionError):
        return source.suffix
    return ".jsonl" if is_row else source.suffix


def parse_chunk(chunk: Chunk, config: DataConfig, tally: Tally) -> Iterator[Document]:
    """Yield the cleaned documents of a chunk. Empty ones are counted and left out."""
    for number, text in READERS[chunk.reader].parse(chunk, config, tally):
        source = f"{chunk.source}:{number}" if number else chunk.source
        whole = replace_surrogates(text)
        if whole is not text:
            tally.add("invalid_utf8", source)
        for place, (piece, last) in enumerate(pieces_of_text(whole)):
            cleaned = clean(piece) if config.clean else piece
            if cleaned != piece:
                tally.add("cleaned_texts", source)
            document = Document(cleaned, source, last and chunk.last)
            is_whole = place == 0 and document.last and (number > 0 or chunk.first == 0)
            if is_whole and not cleaned.strip():
                tally.add("empty_documents", source)
            else:
                yield document
