"""Line charts as SVG and PNG for reports, and curves for the terminal. Drawing uses no network."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

BLUE, ORANGE = "#3d7fd6", "#e07a2f"
PALETTE = (BLUE, ORANGE, "#2a9d76", "#9160d1", "#cf4a63", "#a08a2c", "#3aa7bf", "#7d8691")
"""Colours of lines, legible on white and on black."""
INK, FAINT, GRID, PAPER = "#24292f", "#6b727b", "#e3e5e8", "#ffffff"
FONT = "system-ui, Liberation Sans, Arial, Helvetica, sans-serif"
WIDTH, HEIGHT = 380, 200
MOST_POINTS = 300
FEW_POINTS = 60
"""A line of at most this many points shows each of them as a dot."""
Drawing = dict[str, Any]

_SHORT = "replace(format(datum.value, datum.value ? '~s' : 'd'), 'G', 'B')"
"""Axis labels such as 500, 20k, 4M, 1.5B, as a Vega expression."""

_ROUNDED = "format(datum.value, datum.value < 0.95 ? '.1~r' : ',.0f')"
"""Axis labels such as 0.2, 1, 480."""


class Series(NamedTuple):
    """A named line through the points (x[i], y[i]) in the order of x; points without a finite y are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]


@dataclass(frozen=True)
class Chart:
    """A chart, to be saved as a picture or put into a page."""

    drawing: Drawing
    """A Vega-Lite specification, to which `png` and `svg` add the style."""
    description: str
    """Text alternative for screen readers."""

    def png(self, scale: float = 2.0) -> bytes:
        """A PNG file with a white background and `scale` pixels per point."""
        import vl_convert

        return vl_convert.vegalite_to_png(self._styled(PAPER), scale=scale)

    def svg(self, *, standing_alone: bool = False) -> str:
        """An `<svg>` element for a page, in the page's text colour, with `--faint` and `--grid` for the axes.

        standing_alone: for a file instead, with a white background.
        """
        import vl_convert

        if standing_alone:
            return vl_convert.vegalite_to_svg(self._styled(PAPER))
        svg = vl_convert.vegalite_to_svg(self._styled("transparent"))
        for colour, replacement in {
            INK: "currentColor",
            FAINT: f"var(--faint, {FAINT})",
            GRID: f"var(--grid, {GRID})",
        }.items():
            svg = svg.replace(colour, replacement)
        return svg

    def _styled(self, background: str) -> Drawing:
        return {**self.drawing, "config": {**self.drawing.get("config", {}), **_style(background)}}


def along(field: str, title: str | None, scale: Drawing, **axis: Any) -> Drawing:
    """The Vega-Lite encoding of a field of numbers along an axis."""
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_title: str,
    x_axis: Literal["zero", "whole", "log"] = "zero",
    y_axis: Literal["fit", "zero", "log"] = "fit",
    legend: Literal["top", "bottom", "below"] = "top",
    colours: Sequence[str] = PALETTE,
) -> Chart:
    """A chart with a line for each series, at most one per colour; `thin` reduces long series.

    The legend of several series is at the right, at the top or bottom; "below" has room for many, or long names. A
    logarithmic y axis leaves out values that are not above zero. An x axis of "whole" numbers, such as those of layers,
    has no labels between them.
    """
    lines = [thin(one, above=0.0 if y_axis == "log" else -math.inf) for one in series]
    names = [one.name for one in lines]
    place = {"orient": "none", "legendX": WIDTH - 90, "legendY": 0 if legend == "top" else HEIGHT - 40, "title": None}
    if legend == "below":
        place = {"orient": "bottom", "direction": "vertical", "labelLimit": WIDTH, "title": None}
    x_scale = {"type": "log", "nice": False, "padding": 8} if x_axis == "log" else {"nice": False, "domainMin": 0}
    top = int(max((max(line.x, default=0) for line in lines), default=0))
    steps = {"values": list(range(0, top + 1, max(1, -(-top // 6))))} if x_axis == "whole" else {}
    y_scales: dict[str, Drawing] = {
        "fit": {"zero": False, "nice": False, "padding": 8},
        "zero": {"zero": True},
        "log": {"type": "log", "nice": False, "padding": 8},
    }
    encoding = {
        "x": along("x", x_title, x_scale, labelExpr=_SHORT, tickCount=5, grid=False, **steps),
        "y": along("y", None, y_scales[y_axis], format=",~r", tickCount=5, minExtent=44),
        "color": {
            "field": "name",
            "type": "nominal",
            "scale": {"domain": names, "range": colours[: len(names)]},
            "legend": place if len(names) > 1 else None,
        },
    }
    layers = []
    for line in lines:
        points = [{"x": x, "y": y, "name": line.name} for x, y in zip(line.x, line.y, strict=True)]
        dots = {"size": 22, "filled": True} if len(points) <= FEW_POINTS else False
        mark = {"type": "line", "point": dots, "strokeWidth": 1.8, "strokeJoin": "round"}
        layers.append({"data": {"values": points}, "mark": mark, "encoding": encoding})
    drawing = {"layer": layers, "width": WIDTH, "height": HEIGHT, "title": title}
    return Chart(drawing, _described(title, x_title, lines))


class Band(NamedTuple):
    """The lower and the upper bound of a series at each of its points."""

    low: Sequence[float]
    high: Sequence[float]


def band_chart(series: Series, band: Band | None, *, title: str, x_title: str, y_log: bool = False) -> Chart:
    """One line with the band around it, over a logarithmic x axis; every x is above zero."""
    lows, highs = band or (series.y, series.y)
    points = [
        {"x": x, "y": y, "low": low, "high": high}
        for x, y, low, high in zip(series.x, series.y, lows, highs, strict=True)
    ]
    x_scale = {"type": "log", "nice": False, "padding": 8}
    x_axis = {"values": list(series.x), "labelExpr": _ROUNDED, "labelOverlap": True, "grid": False}
    scale = {"type": "log" if y_log else "linear", "zero": False, "nice": False, "padding": 8}
    y_axis = {"labelExpr": _SHORT, "tickCount": 5, "minExtent": 44} if y_log else {"format": ",~r", "tickCount": 5}
    line = {
        "mark": {"type": "line", "point": {"size": 22, "filled": True}, "strokeWidth": 1.8, "color": BLUE},
        "encoding": {"y": along("y", None, scale, **y_axis)},
    }
    area = {
        "mark": {"type": "area", "color": BLUE, "opacity": 0.15},
        "encoding": {
            "y": {"field": "low", "type": "quantitative", "title": None, "scale": scale},
            "y2": {"field": "high"},
        },
    }
    drawing = {
        "data": {"values": points},
        "encoding": {"x": along("x", x_title, x_scale, **x_axis)},
        "layer": [line] if band is None else [area, line],
        "width": WIDTH,
        "height": HEIGHT,
        "title": title,
    }
    return Chart(drawing, _described(title, x_title, [series]))


def grid(charts: Sequence[Chart], columns: int = 2) -> Chart:
    """Arrange several charts in one picture, row by row."""
    own = {"scale": {"color": "independent"}}  # each chart keeps its own colours and legend
    rows = [
        {"hconcat": [chart.drawing for chart in charts[start : start + columns]], "spacing": 28, "resolve": own}
        for start in range(0, len(charts), columns)
    ]
    drawing = {"vconcat": rows, "spacing": 24, "resolve": own}
    return Chart(drawing, " ".join(chart.description for chart in charts))


def thin(series: Series, most: int = MOST_POINTS, above: float = -math.inf) -> Series:
    """Reduce a series to at most `most` points, means of bins of equal size. Only finite y over `above` count."""
    points = [
        (x, y) for x, y in zip(series.x, series.y, strict=True) if y is not None and math.isfinite(y) and y > above
    ]
    points.sort(key=lambda point: point[0])
    bins = list(_bins(points, most))
    xs, ys = ([_mean([point[axis] for point in group]) for group in bins] for axis in (0, 1))
    return Series(series.name, xs, ys)


def terminal_curve(
    values: Sequence[float], width: int = 64, height: int = 10, x_labels: tuple[str, str] = ("", "")
) -> str:
    """Draw evenly spaced `values` as a curve of braille dots, with the range at the left, in `height` + 1 lines.

    `width` includes the axis labels. `x_labels`, on one more line, are below the first and the last value.
    """
    shown = [value for value in values if math.isfinite(value)]
    if not shown:
        return "no values yet"
    low, high = min(shown), max(shown)
    labels = [f"{value:.4g}" for value in (high, (low + high) / 2, low)]
    margin = max(map(len, labels))
    columns = max(8, width - margin - 2)
    cells = _braille(thin(Series("", range(len(shown)), shown), columns * 2).y, columns, height)
    named = {0: labels[0], height // 2: labels[1], height - 1: labels[2]} if high > low else {height - 1: labels[2]}
    lines = [f"{named.get(row, ''):>{margin}} ┤{text}".rstrip() for row, text in enumerate(cells)]
    first, last = x_labels
    axis = " " * margin + " └" + "─" * columns
    below = " " * (margin + 2) + first + last.rjust(columns - len(first))
    return "\n".join([*lines, axis, *([below] if first or last else [])])


def _braille(values: Sequence[float | None], columns: int, rows: int) -> list[str]:
    """Lines of braille characters (2 by 4 dots each) through `values`, from left to right over the whole width."""
    heights = [value for value in values if value is not None]
    low, span = min(heights), (max(heights) - min(heights)) or 1.0
    wide, tall = columns * 2 - 1, rows * 4 - 1
    xs = [round(index * wide / max(1, len(heights) - 1)) for index in range(len(heights))]
    ys = [round((1.0 - (value - low) / span) * tall) for value in heights]
    if len(xs) == 1:
        xs, ys = [0, wide], ys * 2
    cells = [[0] * columns for _ in range(rows)]
    for x, y in _dots(xs, ys):
        cells[y // 4][x // 2] |= (0x01, 0x02, 0x04, 0x40)[y % 4] if x % 2 == 0 else (0x08, 0x10, 0x20, 0x80)[y % 4]
    return ["".join(chr(0x2800 + cell) if cell else " " for cell in line) for line in cells]


def _dots(xs: Sequence[int], ys: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Every dot on the straight lines between neighbouring points."""
    for (x0, y0), (x1, y1) in zip(zip(xs, ys, strict=True), zip(xs[1:], ys[1:], strict=True), strict=False):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            yield round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps)


def _bins(points: list[tuple[float, float]], most: int) -> Iterator[list[tuple[float, float]]]:
    number = min(most, len(points))
    for index in range(number):
        yield points[index * len(points) // number : (index + 1) * len(points) // number]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _described(title: str, x_title: str, lines: Sequence[Series]) -> str:
    ends = [f"{line.name} from {line.y[0]:.4g} to {line.y[-1]:.4g}" for line in lines if line.y]
    return f"{title} over {x_title}: {', '.join(ends) or 'no values'}."


def _style(background: str) -> Drawing:
    axis = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelColor": FAINT}
    axis |= {"titleColor": FAINT, "gridColor": GRID, "domain": False, "ticks": False, "labelPadding": 6}
    title = {"anchor": "start", "frame": "group", "dx": -44, "fontSize": 14, "fontWeight": 600, "color": INK}
    return {
        "font": FONT,
        "background": background,
        "padding": 6,
        "view": {"continuousWidth": 300, "continuousHeight": 300, "stroke": None},
        "title": {**title, "offset": 10},
        "axis": {**axis, "titlePadding": 8},
        "legend": {"labelFontSize": 12, "labelColor": INK, "symbolStrokeWidth": 2.5, "rowPadding": 3},
    }
