"""Counts as people write them."""

import pytest

from tinyslm.core.quantities import counted, parse_count


def test_one_of_a_thing_is_no_plural():
    assert [counted(number, "row") for number in (0, 1, 2_000)] == ["0 rows", "1 row", "2,000 rows"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("950", 950), ("12.3k", 12_300), ("3M", 3_000_000), (" 1.5 B ", 1_500_000_000), ("1_000", 1000)],
)
def test_counts_are_read_as_they_are_written(text, number):
    assert parse_count(text) == number


@pytest.mark.parametrize("text", ["", "M", "-3", "3X", "0", "1e6", "nan"])
def test_what_is_no_count(text):
    with pytest.raises(ValueError, match=r".*"):
        parse_count(text)
