"""The reader for HTML pages. It determines their encoding as browsers do, and extracts their text."""

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
"""Pages with less visible text, in characters, are not reduced: trafilatura drops headings and lists of short pages."""
NEARLY_ALL = 0.9
"""Pages whose main text is at least this share of the visible text are not reduced: they would only lose headings."""
DEPTH = 200
"""Deeper pages are not reduced: trafilatura's parser silently drops everything below 256 nested elements."""
ELEMENTS = 20_000
"""Pages with more elements are not reduced: trafilatura can take quadratic time."""

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
_C1 = {0xDC00 + code: code for code in range(0x80, 0xA0)}  # "surrogateescape" of undefined bytes to control characters


def decode_page(data: bytes, label: str = "") -> str | None:
    """Decode a page by its byte order mark, else by `label` (the server's charset), else by its declaration.

    `None` if that encoding is unknown or cannot decode the page. Labels are interpreted as on the web (WHATWG Encoding
    Standard): `iso-8859-1` is windows-1252, `gb2312` is gb18030, and a UTF-16 declaration in ASCII bytes means UTF-8.
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
    """The encoding in `<meta charset>`, `<meta http-equiv>` or an XML declaration; "" without one."""
    page = head.decode("latin-1")
    for name, text in tags(page):
        if name != "meta":
            continue
        attributes = attributes_of(text)
        if charset := attributes.get("charset", ""):
            return charset
        if attributes.get("http-equiv", "").lower() == "content-type" and (
            match := _CHARSET.search(attributes.get("content", ""))
        ):
            return match[1]
    xml = _XML_ENCODING.match(page.lstrip())
    return xml[1] if xml else ""


def _web_codec(label: str) -> str:
    """Python's codec for an encoding label, interpreted as on the web; "" for an unknown one."""
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
    """The visible text of a page; only its main text if trafilatura is installed and finds much text around it."""
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
