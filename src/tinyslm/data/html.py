"""The reader for HTML pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache

from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Tally
from tinyslm.data.readers import READERS, Chunk, Reader, decode
from tinyslm.data.sources import Input

HTML = ".html"
_CHARSET = re.compile(rb"charset=[\"']?([A-Za-z0-9_-]+)")


def _page_chunks(opened: Input, _config: DataConfig, _tally: Tally) -> Iterator[Chunk]:
    yield Chunk(HTML, opened.source.name, opened.source.origin, 0, opened.stream.read())


def _parse_page(chunk: Chunk, _config: DataConfig, tally: Tally) -> Iterator[tuple[int, str]]:
    """The main text of a page: by trafilatura where it is installed, else everything that is shown."""
    declared = _CHARSET.search(chunk.data[:2048])
    try:
        page = chunk.data.decode(declared[1].decode() if declared else "utf-8")
    except (UnicodeError, LookupError):
        page = decode(chunk.data, chunk.source, tally)
    extract = _trafilatura()
    yield 0, (extract(page) if extract else None) or _shown_text(page)


@cache
def _trafilatura() -> Callable[[str], str | None] | None:
    try:
        from trafilatura import extract
    except ImportError:
        return None
    return extract


def _shown_text(page: str) -> str:
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(page)
    for node in tree.css("script, style, noscript, template, nav, header, footer, aside, form"):
        node.decompose()
    body = tree.body
    if body is None:
        return ""
    lines = (line.strip() for line in body.text(separator="\n").splitlines())
    return "\n".join(line for line in lines if line)


for _suffix in (HTML, ".htm", ".xhtml"):
    READERS.add(_suffix, Reader(_page_chunks, _parse_page))
