"""What is written as TOML is what the standard library reads."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from tinyslm.core.toml import toml_table, toml_value

PLAIN = st.one_of(
    st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False), st.text()
)


@given(st.one_of(PLAIN, st.lists(st.text(), max_size=3)))
def test_values_are_read_again(value) -> None:
    assert tomllib.loads(f"key = {toml_value(value)}")["key"] == value


def test_a_table_has_its_comments() -> None:
    lines = list(toml_table("a.b", {"x": 1, "y": (True, "z")}, {"x": "what x is"}))
    assert lines == ["[a.b]", "x = 1  # what x is", 'y = [true, "z"]']
    assert tomllib.loads("\n".join(lines)) == {"a": {"b": {"x": 1, "y": [True, "z"]}}}
