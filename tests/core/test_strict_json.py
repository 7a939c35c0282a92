"""JSON from others: what parsers disagree on is refused, with the reason."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.core.strict_json import JsonError, parse_json

REFUSED = {
    b"": "Expecting value at line 1, column 1",
    b"{": "Expecting property name",
    b'{"a": 1,}': "at line 1, column",
    b"\xff": "byte 0 is not UTF-8",
    b'["\xed\xa0\x80"]': "byte 2 is not UTF-8",
    '["é"]'.encode("utf-16"): "not UTF-8",
    b"\xef\xbb\xbf{}": "BOM",
    b"[NaN]": "NaN is not a JSON number",
    b'{"a": -Infinity}': "-Infinity is not",
    b"[1e999]": "1e999 is too large",
    b"9" * 5_000: "too many digits",
    b'{"a": 1, "b": {"c": 1, "\\u0063": 2}}': 'the key "c" occurs twice',
    b'{"\\ud800": 1, "\\ud800": 2}': r'the key "\\ud800" occurs twice',
    b'["\\ud800"]': "a string at 0 has the unpaired surrogate U\\+D800",
    b'"\\udFfF x"': "a string has the unpaired surrogate U\\+DFFF",
    b'{"m": [{}, {"c": "\\uDC00\\uD800"}]}': "at m.1.c has the unpaired surrogate U\\+DC00",
    b'{"a": {"\\ud83d": 1}}': "at a has the unpaired surrogate U\\+D83D",
    b"[" * 100_000: "nested too deeply",
    b'{"a":' * 100_000: "nested too deeply",
    b'"a" "b"': "Extra data",
    b'"\x00"': "Invalid control character",
}


@pytest.mark.parametrize("data", REFUSED, ids=lambda data: repr(data[:20]))
def test_what_is_not_strict_JSON_is_refused_with_the_reason(data) -> None:
    with pytest.raises(JsonError, match=REFUSED[data]) as caught:
        parse_json(data)
    str(caught.value).encode()
    assert len(str(caught.value)) < 400


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=VALUES, escaped=st.booleans())
@settings(deadline=None, max_examples=100)
def test_everything_else_is_read_as_it_is(value, escaped) -> None:
    text = json.dumps(value, ensure_ascii=escaped)
    assert parse_json(text) == parse_json(text.encode()) == value


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert parse_json(b'["\\ud83d\\ude00", "\\\\ud800"]') == ["\U0001f600", "\\ud800"]
