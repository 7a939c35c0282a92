"""The reader for HTML pages: their encoding as browsers find it, and their main text."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from functools import cache

from tinyslm.core.text_files import byte_order_mark
from tinyslm.data.charset import codec_of, utf8_stream, wide_encoding
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Tally
from tinyslm.data.page_text import attributes_of, tags, text_and_shape
from tinyslm.data.readers import READERS, Chunk, Reader
from tinyslm.data.sources import Input

HTML = ".html"
HEAD = 4096  # bytes in which an encoding is declared
SHORT = 1_000
"""Characters of a page that is taken whole: of short ones, trafilatura drops headings and lists."""
NEARLY_ALL = 0.9
"""Share of what a page shows: when the main text is more, the page has no clutter, and what is missing are headings."""
DEPTH = 200
"""Elements within each other that trafilatura is given: its parser drops everything deeper than 256 unnoticed."""
ELEMENTS = 20_000
"""Elements that trafilatura is given: for some pages its time grows with their square."""

_XML_ENCODING = re.compile(r"<\?xml[^>]*\sencoding\s*=\s*[\"']([^\"']+)")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([^\s;\"'>]+)", re.IGNORECASE)
_LABELS = {  # of the WHATWG Encoding Standard, where Python has no such name
    "dos-874": "cp874",
    "windows-874": "cp874",
    "windows-31j": "cp932",
    "windows-949": "cp949",
    "iso-8859-8-i": "iso8859-8",
    "gb_2312": "gb18030",
    "gb_2312-80": "gb18030",
    "cn-big5": "big5hkscs",
    "x-x-big5": "big5hkscs",
    "koi8": "koi8-r",
    "koi8-ru": "koi8-u",
    "mac": "mac-roman",
    "unicode": "utf-8",
    "x-user-defined": "cp1252",
}
_SURROGATE = re.compile("[\ud800-\udfff]")
_C1 = {0xDC00 + code: code for code in range(0x80, 0xA0)}  # what "surrogateescape" makes of undefined bytes


def decode_page(data: bytes, label: str = "") -> str | None:
    """The text of a page in the encoding of its byte order mark, else `label` (of the server), else as it declares.

    None where there is no such encoding, or the page has bytes that are none of it. Encodings are named as on the web
    (WHATWG Encoding Standard): `iso-8859-1` is windows-1252, `gb2312` is gb18030, and what declares UTF-16 in ASCII
    is UTF-8.
    """
    encoding, mark = byte_order_mark(data)
    encoding = encoding or wide_encoding(data[:HEAD]) or _web_codec(label or _declared(data[:HEAD]))
    try:
        return data[mark:].decode(encoding or "ascii")
    except UnicodeDecodeError:
        if not encoding.startswith("cp125"):
            return None
    text = data[mark:].decode(encoding, "surrogateescape").translate(_C1)
    return None if _SURROGATE.search(text) else text


def _declared(head: bytes) -> str:
    """The encoding that `<meta charset>`, `<meta http-equiv>` or an XML declaration names; "" without one."""
    page = head.decode("latin-1")
    for name, text in tags(page):
        if name != "meta":
            continue
        found = attributes_of(text)
        if charset := found.get("charset", ""):
            return charset
        if found.get("http-equiv", "").lower() == "content-type" and (
            named := _CHARSET.search(found.get("content", ""))
        ):
            return named[1]
    xml = _XML_ENCODING.match(page.lstrip())
    return xml[1] if xml else ""


def _web_codec(label: str) -> str:
    """Python's codec for a label, "" for an unknown one."""
    label = label.strip().lower()
    for name in (_LABELS.get(label, label), label.removeprefix("x-")):
        try:
            codec = codec_of(name)
        except (LookupError, ValueError):
            continue
        return "utf-8" if codec.startswith(("utf-16", "utf-32")) else codec
    return ""


def _page_chunks(opened: Input, config: DataConfig, tally: Tally) -> Iterator[Chunk]:
    page = opened.stream.read(config.max_record_bytes + 1)
    if len(page) > config.max_record_bytes:
        tally.add("long_records", opened.source.name)
    elif page:
        yield Chunk(HTML, opened.source.name, opened.source.origin, 0, page)
    else:
        tally.add("empty_files", opened.source.name)


def _parse_page(chunk: Chunk, config: DataConfig, tally: Tally) -> Iterator[tuple[int, str]]:
    page = decode_page(chunk.data)
    if page is None:
        stream = utf8_stream(io.BytesIO(chunk.data), chunk.source, config.encoding, tally, strict=config.strict)
        page = stream.read().decode()
    yield 0, _main_text(page, chunk.source, tally)


def _main_text(page: str, source: str, tally: Tally) -> str:
    """What a page shows, or the main text in it that trafilatura finds, where that is installed and leaves out much."""
    shown, shape = text_and_shape(page)
    extract = _trafilatura()
    if not extract or len(shown) < SHORT or shape.depth > DEPTH or shape.elements > ELEMENTS:
        return shown
    main = extract(page)
    if not main or len(main) >= NEARLY_ALL * len(shown):
        return shown
    tally.add("reduced_pages", source)
    return main


@cache
def _trafilatura() -> Callable[[str], str | None] | None:
    try:
        from trafilatura import extract
    except ImportError:
        return None
    return extract


for _suffix in (HTML, ".htm", ".xhtml"):
    READERS.add(_suffix, Reader(_page_chunks, _parse_page))
