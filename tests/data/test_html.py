"""Pages as browsers show them, in every encoding they know, however they are nested."""

import gzip
import sys

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.data import html, page_text
from tinyslm.data.config import DataConfig
from tinyslm.data.html import _trafilatura, decode_page
from tinyslm.data.page_text import shown_text, text_and_shape
from tinyslm.data.reading import read_documents


def texts(path, told=None, **settings):
    notify = told.append if told is not None else lambda _: None
    return [document.text for document in read_documents([str(path)], DataConfig(**settings), notify=notify)]


@pytest.fixture(params=["plain", "trafilatura"])
def reader(request, monkeypatch):
    """With trafilatura and without it."""
    if request.param == "plain":
        monkeypatch.setattr(html, "_trafilatura", lambda: None)
    elif not _trafilatura():
        pytest.skip("trafilatura is not installed")
    return request.param


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<p>un<i>believ</i>able <b>bold</b>, <a href='/x'>1812</a>.</p>", "unbelievable bold, 1812."),
        ("<p>H<sub>2</sub>O; see <code>mill.turn()</code>.", "H2O; see mill.turn()."),
        ("<h1>The <em>old</em>\n mill</h1>text\tafter   it", "The old mill\ntext after it"),
        ("one<br>two<br/>three</br>four", "one\ntwo\nthree\nfour"),
        ("<p>a<p>b<div>c</div>d", "a\nb\nc\nd"),
        ("<ul><li>One<ul><li>In <b>one</b><li>In two</ul><li>Two</ul>", "One\nIn one\nIn two\nTwo"),
        ("<dl><dt>Term<dd>What it is<dt>Other<dd>Else</dl>", "Term\nWhat it is\nOther\nElse"),
        ("<table><tr><th>Name <th> Price<tr><td>A <b>pie</b></td>\n<td>5 &euro;</table>", "Name\tPrice\nA pie\t5 €"),
        ("<table><tr><td></td><td><p>a</p></td><td>b</td></tr></table>", "a\n\tb".replace("\t", "")),
        ("x<pre>\ndef f():\n    if 1:\n\n\treturn &lt;2\n</pre>y", "x\ndef f():\n    if 1:\n\n\treturn <2\ny"),
        ("<pre><code>a\r\n  <b>b</b><br>  c</code></pre>", "a\n  b\n  c"),
        (
            "&lt;p&gt; &amp;amp; &eacute; &#8220;x&#8221; &#x20AC; &#150; &nosuch; AT&T",
            "<p> &amp; é “x” € – &nosuch; AT&T",
        ),
        ("a &#" + "9" * 5000 + ";b &#" + "0" * 5000 + "65;", "a \ufffdb A"),
        ("a<!-- no <p>text --> b<!-->c<!-- >d-->e<![CDATA[no]]>f<?php no ?>g", "a bcefg"),
        ("a<script>if (a<b) '</p>'</script>b<style>p{}</style>c<template>no</template>d", "abcd"),
        ("a <noscript>Enable JavaScript</noscript>b<svg><text>no</text></svg>", "a b"),
        ("a<p hidden>no</p><div style='x:y; Display : None'>no<p>no</div><p class='hidden'>yes", "a\nyes"),
        ("a<dialog>no</dialog><dialog open>yes</dialog><span hidden>no<i>no</span>b", "a\nyes\nb"),
        ("<p title='a > b'>one</p><a href=x?a=b title=\"it's\">two</a>", "one\ntwo"),
        ("a < b and c<d> e", "a < b and c e"),
        ("<nav>menu</nav><header>top</header><p>text</p><aside>ad</aside><footer>imprint</footer>", "text"),
        ("<article><header><h1>Title</h1></header><p>text</p></article>", "Title\ntext"),
        ("<header><p>All is in the header.</p></header>", "All is in the header."),
        (
            "<form><h1>News</h1><p>Name:<input>or <select><option>no</select>x <button>Send</button></form>",
            "News\nName: or x",
        ),
        ("<div>a</span></b></div>b</table>c<p>d</section>e", "a\nbc\nde"),
        ("<b><div>one</b></div>two <i>th</b>ree", "one\ntwo three"),
        ("<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby>字", "漢字"),
        ("a&nbsp;b<p>&nbsp;</p>c", "a\u00a0b\nc"),
        ("ends within<a href='x", "ends within"),
    ],
)
def test_a_page_is_read_as_it_is_shown(body, expected):
    for page in (
        f"<!doctype html><html><head><title>t</title></head><body>{body}",
        f"<body>{body}</body></html>",
        body,
    ):
        assert shown_text(page) == expected


STORY = (
    "The mill was <b>built</b> in <a href='/1812'>1812</a>, and the un<i>believ</i>able wheel number {} still turns. "
)
LONG = f"""<!doctype html><html><head><meta charset="utf-8"><title>T</title></head><body><nav>menu entry</nav>
<form id="all" action="x"><div><h1>The <em>old</em> mill</h1><p>{"</p><p>".join(map(STORY.format, range(20)))}</p>
<p>H<sub>2</sub>O flows &amp; flows<br>line two.</p><pre>def turn(wheel):
    for step in wheel:
        step.go()
</pre><noscript>JavaScript, please</noscript><script>var secret = 1</script></div></form>
<footer>imprint</footer></body></html>"""
SHORT = LONG.replace("</p><p>".join(map(STORY.format, range(20))), STORY)


@pytest.mark.parametrize("page", [LONG, SHORT])
def test_sentences_stay_whole_with_trafilatura_and_without(tmp_path, reader, page):
    (tmp_path / "a.html").write_text(page)
    (found,) = texts(tmp_path / "a.html")
    lines = found.split("\n")
    assert sum(line.startswith("The mill was built in 1812, and the unbelievable wheel number ") for line in lines) in (
        1,
        20,
    )
    assert "The old mill" in lines
    assert "def turn(wheel):\n    for step in wheel:\n        step.go()" in found
    assert "H2O flows & flows\nline two." in found
    assert not any(word in found for word in ("menu entry", "imprint", "secret", "JavaScript", "<"))


def test_pages_that_are_reduced_to_their_main_text_are_reported(tmp_path, reader):
    links = "".join(f"<div class=menu><a href={n}>An entry of the menu, number {n}</a></div>" for n in range(500))
    (tmp_path / "a.html").write_text(LONG.replace("<form", links + "<form"))
    told = []
    (found,) = texts(tmp_path / "a.html", told)
    assert ("entry of the menu" in found) == (reader == "plain")
    assert any("1 HTML page was reduced to its main text" in message for message in told) == (reader == "trafilatura")


@pytest.mark.parametrize("depth", [150, 300, 3000])
def test_deep_pages_lose_nothing(tmp_path, reader, depth):
    page = LONG.replace("<p>H<sub>", "<div>" * depth + "<p>Deep down.</p>" + "</div>" * depth + "<p>H<sub>")
    (tmp_path / "a.html").write_text(page)
    (found,) = texts(tmp_path / "a.html")
    assert "Deep down." in found.split("\n")
    assert "line two." in found


@pytest.mark.parametrize(
    "opening",
    ["<div>", "<ul><li>", "<b>", "<p><font color={}>", "<table><tr><td>", "<pre>", "<a b='", "<!--", "<", "</ ", "&#"],
)
def test_the_work_for_a_page_grows_with_its_length(opening):
    """Counted in lines of code that run: nested or unclosed elements take as many for each as a few do."""

    def steps(count):
        page = "".join(opening.replace("{}", str(n)) for n in range(count)) + "<p>x" * (
            count if "font" in opening else 1
        )
        lines = 0

        def trace(frame, event, _):
            nonlocal lines
            lines += event == "line" and frame.f_globals["__name__"] == page_text.__name__
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            text_and_shape(page)
        finally:
            sys.settrace(before)
        return lines

    assert steps(2000) <= 10 * steps(200) + 100


GERMAN = "“go” – it’s 5 € für Käse"
META = '<meta charset="{}">'
HTTP = '<meta http-equiv="Content-Type" content="text/html; charset={}">'


@pytest.mark.parametrize(
    ("head", "label", "codec", "text"),
    [
        (META, "iso-8859-1", "cp1252", GERMAN),
        (HTTP, "ISO-8859-1", "cp1252", GERMAN),
        (HTTP, "us-ascii", "cp1252", GERMAN),
        (META, "x-cp1252", "cp1252", GERMAN),
        (META, "iso-8859-9", "cp1254", "“Şişli’de ığdır”"),
        (META, "iso-8859-2", "iso8859-2", "żółć ľúbiť"),
        (HTTP, "windows-1251", "cp1251", "Съешь же ещё"),
        (META, "KOI8-R", "koi8-r", "Съешь же ещё"),
        (META, "windows-1253", "cp1253", "Ελληνικά"),
        (META, "windows-874", "cp874", "ภาษาไทย"),
        (META, "tis-620", "cp874", "ภาษาไทย…"),
        (META, "gb2312", "gb18030", "镕基与喆：汉字€"),
        (HTTP, "gbk", "gb18030", "镕基与喆"),
        (META, "x-gbk", "gb18030", "镕基与喆"),
        (META, "big5", "big5hkscs", "漢字嘅"),
        (HTTP, "Shift_JIS", "cp932", "①㈱ 漢字～カナ"),
        (META, "x-sjis", "cp932", "①㈱ 漢字～カナ"),
        (META, "euc-jp", "euc_jp", "漢字かな交じり"),
        (META, "iso-2022-jp", "iso2022_jp", "漢字かな交じり"),
        (META, "euc-kr", "cp949", "똠방각하"),
        (META, "ks_c_5601-1987", "cp949", "똠방각하"),
        (META, "utf-16", "utf-8", "declared in ASCII: é"),
        (META, "utf-8", "utf-16", "UTF-16 ✓"),
        (META, "utf-16", "utf-16-le", "UTF-16 é without a mark"),
        (HTTP, "utf-16be", "utf-16-be", "UTF-16 é without a mark"),
        (META, "iso-8859-1", "utf-8-sig", "the mark wins ✓"),
        ("<!-- <meta charset=koi8-r> --><META CHARSET={}>", "windows-1251", "cp1251", "Съешь"),
        ("<meta content='text/html;charset={}' http-equiv=content-type>", "windows-1251", "cp1251", "Съешь"),
        ('<meta name="description" content="charset=koi8-r"/><meta charset="{}"/>', "cp1251", "cp1251", "Съешь"),
        ("<title>no declaration</title>", "", "utf-8", "é ✓"),
    ],
)
def test_encodings_are_those_of_the_web(tmp_path, head, label, codec, text):
    page = f"<html><head>{head.format(label)}</head><body><p>{text}</p></body></html>"
    (tmp_path / "a.html").write_bytes(page.encode(codec))
    (tmp_path / "b.htm.gz").write_bytes(gzip.compress(page.encode(codec)))
    assert texts(tmp_path, deduplicate=False) == [text, text]


@pytest.mark.parametrize("codec", ["gb18030", "shift_jis", "utf-8"])
def test_an_xml_declaration_counts_and_empty_elements_are_empty(tmp_path, codec):
    head = '<?xml version="1.0" encoding="{}"?>\n<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml"><head><title/>'
    page = (
        head.format("gb2312" if codec == "gb18030" else codec)
        + "<script src='a.js'/></head><body><p>漢字<i/>かな</p></body></html>"
    )
    (tmp_path / "a.xhtml").write_bytes(page.encode(codec))
    assert texts(tmp_path / "a.xhtml") == ["漢字かな"]


def test_bytes_that_windows_1252_does_not_define_are_no_reason_to_doubt_it():
    assert decode_page(b"<meta charset=latin1>caf\xe9 \x81 \x80") == "<meta charset=latin1>café \x81 €"


def test_a_wrong_declaration_is_not_believed_and_the_guess_is_reported(tmp_path):
    text = "Der Müller führte das Gespräch über die Mühle, während die Bäche größer wurden. " * 5
    told = []
    (tmp_path / "a.html").write_bytes(f"<meta charset=utf-8><p>{text}".encode("cp1252"))
    assert texts(tmp_path / "a.html", told) == [text.strip()]
    assert "read as windows-125" in told[0]
    assert texts(tmp_path / "a.html", encoding="cp1252") == [text.strip()]


def test_a_page_longer_than_a_record_may_be_is_skipped_and_named(tmp_path):
    told = []
    (tmp_path / "a.html").write_text("<p>short")
    (tmp_path / "b.html.gz").write_bytes(gzip.compress(b"<p>" + b"x" * 100_000))
    assert texts(tmp_path, told, max_record_bytes=10_000) == ["short"]
    assert told == [f"1 record longer than --data.max_record_bytes was skipped: {tmp_path / 'b.html.gz'}."]
    with pytest.raises(TinyslmError, match=r"b.html.gz is longer than a record may be \(10000 bytes\)"):
        texts(tmp_path / "b.html.gz", max_record_bytes=10_000)
