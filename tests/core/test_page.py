"""The page is one file: valid structure, every text escaped, no scripts, nothing fetched."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyslm.core.page import Bars, Figures, Folded, KeyFigures, Paragraph, Sample, Section, SideBySide, Table, page

EVIL = "</pre><script>alert('1')</script><img src=x onerror=\"a\">&amp;\x1b[31m\u202e"
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Checks that elements nest, and collects names, attributes and text."""

    def __init__(self, document):
        super().__init__()
        self.open, self.seen, self.attributes, self.text = [], [], [], ""
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def whole(text):
    """A page in which every field is `text`."""
    blocks = [
        KeyFigures([(text, text)]),
        Section(
            text,
            [
                Paragraph(text),
                Table([(text, text), (text, "1")], (text, text), text),
                SideBySide([Table([(text, "1.5")])]),
                Bars([(text, 1.0, text), (text, 2.0, text)]),
                Figures([('<svg xmlns="http://www.w3.org/2000/svg"></svg>', text)]),
                Sample(text, text, text),
                Folded(text, [Paragraph(text)]),
            ],
        ),
    ]
    return page(text, text, blocks)


@given(st.text() | st.just(EVIL))
def test_text_is_shown_and_never_obeyed(text):
    plain, told = Reader(whole("plain")), Reader(whole(f"a{text}"))
    assert told.seen == plain.seen
    assert [(tag, name) for tag, name, _ in told.attributes] == [(tag, name) for tag, name, _ in plain.attributes]
    assert told.text.count("\x1b") == 0


def test_control_characters_are_spelled_out():
    assert "\\x1b[31m\\u202e" in Reader(whole(EVIL)).text


def test_nothing_is_fetched_and_nothing_runs():
    document = whole("plain")
    reader = Reader(document)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("meta", "content", policy) in reader.attributes
    assert not {"script", "link", "iframe", "object", "img"} & set(reader.seen)
    assert not [name for _, name, _ in reader.attributes if name in {"src", "href"} or name.startswith("on")]
    assert not re.search(r"@import|url\(", document)


def test_the_page_says_what_it_is():
    reader = Reader(whole("plain"))
    assert ("html", "lang", "en") in reader.attributes
    assert ("figure", "aria-label", "plain") in reader.attributes
    assert {"header", "main", "section", "h1", "h2", "th", "figcaption"} <= set(reader.seen)
    assert reader.seen.count("h1") == 1


def test_charts_on_one_page_do_not_share_ids():
    svg = '<svg><clipPath id="clip0"><rect width="{}"/></clipPath><g clip-path="url(#clip0)"></g></svg>'
    document = Figures([(svg.format(1), "a"), (svg.format(2), "b")]).html()
    ids = re.findall(r'id="([^"]+)"', document)
    assert len(set(ids)) == 2
    assert re.findall(r"url\(#([^)]+)\)", document) == ids


@pytest.mark.parametrize(
    ("cells", "right"),
    [(["1", "2.5"], True), (["12 %", "1,000", "–"], True), (["3.1 M", "-4e-05"], True), (["1", "qwen3"], False)],
)
def test_columns_of_numbers_are_aligned_to_the_right(cells, right):
    assert ('<td class="number">' in Table([("name", cell) for cell in cells]).html()) == right


def test_nothing_to_show_is_shown_as_nothing():
    Reader(page("a", "", [Table([]), Bars([]), KeyFigures([]), Figures([]), SideBySide([]), Section("a", [])]))
