"""Charts are pictures without scripts or outside requests; curves fit their box."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.core.plots import Band, Series, band_chart, grid, line_chart, terminal_curve, thin

numbers = st.floats(-1e30, 1e30)


@given(
    st.lists(st.tuples(numbers, st.none() | st.floats(-1e30, 1e30) | st.just(math.nan) | st.just(math.inf))),
    st.integers(1, 40),
)
@settings(deadline=None)
def test_thinning_keeps_the_mean_the_order_and_the_range(points, most):
    points.sort(key=lambda point: point[0])
    thinned = thin(Series("a", [x for x, _ in points], [y for _, y in points]), most)
    kept = [y for _, y in points if y is not None and math.isfinite(y)]
    assert len(thinned.x) == len(thinned.y) == min(most, len(kept))
    assert list(thinned.x) == sorted(thinned.x)
    if kept:
        slack = 1e-9 * max(map(abs, kept))
        assert min(kept) - slack <= min(thinned.y)
        assert max(thinned.y) <= max(kept) + slack


def test_thinning_averages_neighbours():
    thinned = thin(Series("a", [3, 1, 2, 4], [3.0, 1.0, None, 5.0]), 2)
    assert thinned == Series("a", [1.0, 3.5], [1.0, 4.0])
    assert thin(Series("a", [1, 2, 3], [0.0, -1.0, 2.0]), above=0.0).x == [3.0]


def chart(**options):
    train = Series("train", range(1, 2001), [1 + 100 / step for step in range(1, 2001)])
    validation = Series("validation", [1000, 2000], [1.2, None])
    return line_chart([train, validation], title="Loss & more", x_title="tokens", **options)


@pytest.mark.parametrize("y_axis", ["fit", "zero", "log"])
def test_an_svg_stands_alone_and_takes_the_pages_colours(y_axis):
    svg = chart(y_axis=y_axis).svg()
    root = ET.fromstring(svg)
    assert root.tag.endswith("svg")
    assert "viewBox" in root.attrib
    texts = {element.text for element in root.iter() if element.text}
    assert {"Loss & more", "tokens", "train", "validation"} <= texts
    assert not re.search(r"<script|<image|<foreignObject|href=|\bon\w+=", svg)
    assert {address for address in re.findall(r"https?://[^\"]*", svg) if "www.w3.org" not in address} == set()
    assert "currentColor" in svg
    assert "var(--grid" in svg
    assert svg.count(" L") + svg.count("L") < 2000, "a long series is thinned"


def test_a_chart_says_in_words_what_it_shows():
    assert chart().description == "Loss & more over tokens: train from 41.83 to 1.05, validation from 1.2 to 1.2."


@pytest.mark.parametrize("band", [None, Band([1.0, 0.5], [3.0, 1.5])])
def test_a_line_with_a_band_over_a_logarithmic_axis(band):
    drawn = band_chart(Series("bits", [1, 480], [2.0, 1.0]), band, title="Bits", x_title="minutes")
    assert "from 2 to 1" in drawn.description
    svg = drawn.svg(standing_alone=True)
    ET.fromstring(svg)
    assert "var(--" not in svg
    assert ("mark-area" in svg) == (band is not None)


def test_a_picture_of_several_charts():
    one, several = chart().png(), grid([chart(), chart(), chart()]).png()
    assert one.startswith(b"\x89PNG")
    size = [int.from_bytes(png[16:20], "big") for png in (one, several)]
    assert size[1] > 1.8 * size[0]


@pytest.mark.parametrize("values", [[], [2.0], [2.0, 2.0], [math.nan, 1.0]])
def test_a_chart_of_little(values):
    chart = line_chart([Series("train", range(len(values)), values)], title="Loss", x_title="steps")
    assert ET.fromstring(chart.svg()).tag.endswith("svg")


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=300),
    st.integers(20, 120),
    st.integers(3, 20),
)
@settings(deadline=None)
def test_a_curve_fits_its_box(values, width, height):
    lines = terminal_curve(values, width, height).split("\n")
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        assert lines == ["no values yet"]
        return
    assert len(lines) == height + 1
    assert max(map(len, lines)) <= max(width, 24)
    assert any(0x2800 < ord(char) <= 0x28FF for line in lines for char in line)


def test_a_falling_curve_falls():
    assert terminal_curve([3.0, 2.0, 1.0], 16, 3, ("1", "3 k")).split("\n") == [
        "3 ┤⠉⠢⠤⡀",
        "2 ┤   ⠈⠉⠢⠤⣀",
        "1 ┤        ⠉⠑⠒⠤⣀",
        "  └─────────────",
        "   1         3 k",
    ]


@pytest.mark.parametrize("last", [1, 2, 30])
def test_a_whole_axis_has_no_labels_between_numbers(last) -> None:
    line = Series("layers", list(range(1, last + 1)), [1.0] * last)
    svg = line_chart([line], title="A", x_title="layer", x_axis="whole").svg()
    texts = re.findall(r">([^<>]+)</text>", svg)
    labels = texts[: texts.index("layer")]
    assert (labels[0], labels[-1]) == ("0", str(last))
    assert all(label.isdecimal() for label in labels)
