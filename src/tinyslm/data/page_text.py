"""Extract the visible text of an HTML page: one line per block, `<pre>` unchanged.

A page is parsed as a sequence of tags, not as a tree, so time and memory are proportional to its length. (Building the
HTML standard's tree takes quadratic time for nested blocks and quadratic memory for unclosed formatting.)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from io import StringIO

_TAG = re.compile(
    r"<(?:!--(?:-?>|.*?(?:--!?>|\Z))"
    r"|(?:[!?]|/(?![a-z]))[^>]*+(?:>|\Z)"
    r"|(?P<end>/?)(?P<name>[a-z][^\s/>]*+)"
    r"(?P<attributes>(?:[^>=]++|=\s*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))?)*+)(?:>|\Z))",
    re.IGNORECASE | re.DOTALL,
)
_ATTRIBUTE = re.compile(r"([^\s/=]++)(?:\s*+=\s*+(\"[^\"]*+\"?|'[^']*+'?|\S*+))?", re.DOTALL)
_MAY_HIDE = re.compile(r"\bhidden|\bdisplay|\bvisibility", re.IGNORECASE)
_HIDING_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\n\r\f]+")
_DEEPEST = 10_000  # maximum depth of tracked elements; deeper ones do not hide or format text
_PIECE = 1 << 16  # characters of text processed at a time
_LONGEST_ENTITY = 40
_SCANNED = 64  # number of open elements to search for the start tag of an inline element


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


_VOID = _names("area base br col embed frame hr img input link meta param source track wbr")
_RAW = {  # elements whose content is not markup, and patterns of their ends
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE)
    for name in ("script", "style", "title", "textarea", "iframe", "noembed", "noframes")
}
_BLOCKS = _names(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure"
    " footer form h1 h2 h3 h4 h5 h6 head header hgroup hr html legend li listing main menu nav ol optgroup option p"
    " pre search section summary table tbody tfoot thead tr ul"
)
_CELLS = _names("td th")
_CONTROLS = _names("audio button canvas iframe input object select textarea video")  # no text, but they separate words
_VERBATIM = _names("pre listing")
_NEVER_SHOWN = _names("template noscript svg rp rt datalist") | _RAW.keys() | _CONTROLS
_NOT_CONTENT = _names("nav header footer aside")


def shown_text(page: str) -> str:
    r"""The visible text of a page, without its navigation, header, footer, side notes and controls; `\n` ends lines.

    Each block is a line, tabs separate table cells, and white space is collapsed as in browsers, except in `<pre>`. If
    a page has no other text, that of its navigation, header, footer and side notes is returned.
    """
    return text_and_shape(page)[0]


def tags(page: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each start tag, in lower case, and the text of its attributes."""
    return (
        (tag["name"].lower(), tag["attributes"]) for _, tag in _tokens(page) if tag and tag["name"] and not tag["end"]
    )


def attributes_of(text: str) -> dict[str, str]:
    """Parse the attributes of a tag: names in lower case, values without quotes; "" without a value."""
    attributes: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(text):
        value = match[2] or ""
        attributes.setdefault(match[1].lower(), value.strip(value[0]) if value.startswith(("'", '"')) else value)
    return attributes


def text_and_shape(page: str) -> tuple[str, Shape]:
    """The `shown_text` of a page, and the number and depth of its elements."""
    reader = _Page(_NEVER_SHOWN | _NOT_CONTENT)
    text = reader.read(page) or _Page(_NEVER_SHOWN).read(page)
    return text, Shape(reader.elements, reader.deepest)


@dataclass(frozen=True, slots=True)
class Shape:
    """The number of elements of a page, and their maximum depth (counted up to `_DEEPEST`)."""

    elements: int
    depth: int


class _Page:
    """One pass over a page. `_open` holds `(name, shown, verbatim)` of each open element.

    White space is written only before more text in the same line; `_space` holds it until then.
    """

    def __init__(self, left_out: frozenset[str]) -> None:
        self.elements = self.deepest = 0
        self._left_out = left_out
        self._open: list[tuple[str, bool, bool]] = [("", True, False)]
        self._names: Counter[str] = Counter()  # number of open elements by name
        self._written = StringIO()
        self._line_is_empty = True
        self._space = ""
        self._first_in_pre = False

    def read(self, page: str) -> str:
        """The text of the page."""
        if "\r" in page:
            page = page.replace("\r\n", "\n").replace("\r", "\n")
        is_xml = _is_xml(page)
        for text, tag in _tokens(page):
            if text and self._open[-1][1]:
                self._text(_unescape(text))
            if tag and (name := tag["name"]):
                if tag["end"]:
                    self._end(name.lower())
                else:
                    self._start(name.lower(), tag["attributes"], empty=is_xml and _is_empty(tag))
        return self._written.getvalue().strip("\n")

    def _text(self, text: str) -> None:
        if self._open[-1][2]:
            text = text.removeprefix("\n") if self._first_in_pre else text
            self._first_in_pre = False
            if text:
                self._write(text)
                self._line_is_empty = text.endswith("\n")
            return
        text = _SPACE.sub(" ", text)
        words = text.strip(" ")
        if words.strip():
            if text[0] == " ":
                self._add_space(" ")
            self._write(words)
        if text[-1] == " ":
            self._add_space(" ")

    def _write(self, text: str) -> None:
        self._written.write(self._space)
        self._written.write(text)
        self._space, self._line_is_empty = "", False

    def _add_space(self, space: str) -> None:
        if not self._line_is_empty and not (space == " " and self._space):
            self._space = self._space.replace(" ", "") + space

    def _start(self, name: str, attributes: str, *, empty: bool) -> None:
        if _closes(self._open[-1][0], name):
            self._pop()
        self.elements += 1
        _, shown, verbatim = self._open[-1]
        if shown:
            self._break(name)
            if name in _CONTROLS:
                self._add_space(" ")
        if empty or name in _VOID or len(self._open) > _DEEPEST:
            return
        kept = name not in self._left_out or (name == "header" and (self._names["article"] or self._names["main"]))
        shown = bool(shown and kept and not _hides(name, attributes))
        self._first_in_pre = name in _VERBATIM
        self._open.append((name, shown, verbatim or name in _VERBATIM))
        self._names[name] += 1
        self.deepest = max(self.deepest, len(self._open) - 1)

    def _end(self, name: str) -> None:
        if name == "br":  # browsers treat </br> as <br>
            self._start(name, "", empty=True)
        if not self._names[name]:
            return
        if name in _BLOCKS or name in _CELLS or name in self._left_out:
            while self._pop() != name:
                pass
            if self._open[-1][1] and name not in _CELLS:
                self._break(name)
            return
        for steps, (other, _, _) in enumerate(reversed(self._open[-_SCANNED:]), start=1):
            if other == name:
                for _ in range(steps):
                    self._pop()
                return
            if other in _BLOCKS or other in _CELLS:
                return

    def _pop(self) -> str:
        name = self._open.pop()[0]
        self._names[name] -= 1
        return name

    def _break(self, name: str) -> None:
        """End the line or separate cells at the start or end of an element."""
        if name == "br" and self._open[-1][2]:
            self._write("\n")
            self._line_is_empty = True
        elif name == "br" or name in _BLOCKS:
            if not self._line_is_empty:
                self._written.write("\n")
            self._space, self._line_is_empty = "", True
        elif name in _CELLS:
            self._add_space("\t")


def _tokens(page: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """Yield pieces of text, with entities, as (text, None), and tags and comments as ("", match)."""
    position, is_xml = 0, _is_xml(page)
    while tag := _TAG.search(page, position):
        yield from _pieces(page, position, tag.start())
        yield "", tag
        position = tag.end()
        content = None if tag["end"] else _RAW.get((tag["name"] or "").lower())
        if content and not (is_xml and _is_empty(tag)):
            end = content.search(page, position)
            position = end.start() if end else len(page)
    yield from _pieces(page, position, len(page))


def _is_xml(page: str) -> bool:
    return page.lstrip("\ufeff \t\r\n").startswith("<?xml")


def _is_empty(tag: re.Match[str]) -> bool:
    """Whether an XML start tag is also the end tag."""
    return tag["attributes"].endswith("/")


def _pieces(page: str, start: int, end: int) -> Iterator[tuple[str, None]]:
    """Cut `page[start:end]` into pieces of about `_PIECE` characters, never within an entity."""
    while end - start > _PIECE:
        cut = start + _PIECE
        entity = page.rfind("&", cut - _LONGEST_ENTITY, cut)
        cut = entity if entity > start else cut
        yield page[start:cut], None
        start = cut
    if start < end:
        yield page[start:end], None


def _closes(last: str, name: str) -> bool:
    """Whether the start tag `name` implies the missing end tag of the last open element."""
    if last == "p":
        return name in _BLOCKS
    if last in _CELLS:
        return name in _CELLS or name == "tr"
    return (last == name and name in ("li", "tr", "option")) or (last in ("dt", "dd") and name in ("dt", "dd"))


def _hides(name: str, attributes: str) -> bool:
    if name == "dialog":
        return "open" not in attributes_of(attributes)
    if not attributes or not _MAY_HIDE.search(attributes):
        return False
    values = attributes_of(attributes)
    return "hidden" in values or _HIDING_STYLE.search(values.get("style", "")) is not None


def _unescape(text: str) -> str:
    """Replace character references, including numeric ones of any length."""
    if "&#" in text:
        text = re.sub(r"&#0+(?=[0-9])", "&#", text)
        text = re.sub(r"&#[0-9]{8,};?", "\ufffd", text)
    return unescape(text) if "&" in text else text
