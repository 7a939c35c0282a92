"""The plots and rows of the study of tokenization, from the rows that `tokenization.py` stores."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

from tinyslm.core.plots import PALETTE, Chart, Series, grid, line_chart
from tinyslm.core.quantities import count

PLOTS = {
    "tokenizers-vocabulary.svg": "Bits per byte against the size of the vocabulary, for each text and size of model",
    "tokenizers-settings.svg": "Change of bits per byte by the kind of tokenizer, digits and case, for each text",
    "tokenizers-answers.svg": "Right answers by the kind of tokenizer, digits and case",
}
ANSWERS = {
    "grammar": "BLiMP pairs",
    "sums": "sums",
    "formulas": "formulas, exact",
    "formulas_executed": "formulas, executed",
}
THOUSANDS = "datum.value < 1024 ? datum.value : round(datum.value / 1024) + 'k'"
Row = Mapping[str, Any]


def draw(result: Mapping[str, Any]) -> dict[str, str]:
    """The SVG of each plot that the rows are enough for, by its name in docs/."""
    rows = [row for row in result["runs"] if "failed" not in row]
    charts = {
        "tokenizers-vocabulary.svg": vocabulary_chart(rows),
        "tokenizers-settings.svg": settings_chart(rows),
        "tokenizers-answers.svg": answers_chart(rows),
    }
    return {name: chart.svg(standing_alone=True) for name, chart in charts.items() if chart is not None}


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown: for each text, size and seconds, the figures of each tokenizer: means over the seeds, with the lowest
    and the highest bits per byte where there are several."""
    places = dict.fromkeys((row["text"], row["params"], row["seconds"]) for row in rows)
    for text, params, seconds in sorted(places):
        same = [row for row in rows if (row["text"], row["params"], row["seconds"]) == (text, params, seconds)]
        tasks = [name for name in ANSWERS if any(name in row for row in same)]
        header = ["tokenizer", "bits per byte", "bytes/token", "embeddings", "tokens/s", *map(ANSWERS.get, tasks)]
        yield f"\n**{text}, {count(params)} parameters, {seconds:g} s**\n"
        yield f"| {' | '.join(map(str, header))} |\n|{' --- |' * len(header)}"
        for setting in dict.fromkeys(map(name_of, same)):
            mine = [row for row in same if name_of(row) == setting]
            yield f"| {' | '.join(_cells(setting or 'base', mine, tasks))} |"


def _cells(setting: str, rows: Sequence[Row], tasks: Sequence[str]) -> Iterator[str]:
    """The cells of a row of a table: one tokenizer, each seed a row."""
    done = [row for row in rows if "failed" not in row]
    yield setting
    if not done:
        yield from [f"failed: {rows[0]['failed']}", *[""] * (3 + len(tasks))]
        return
    bits = [row["bits_per_byte"] for row in done]
    yield f"{mean(bits):.4f}" + (f" ({min(bits):.4f} to {max(bits):.4f})" if len(bits) > 1 else "")
    yield f"{mean(row['bytes_per_token'] for row in done):.2f}"
    yield f"{mean(row['embedding_share'] for row in done):.0%}"
    yield f"{mean(row['tokens_per_second'] for row in done):,.0f}"
    for task in tasks:
        values = [row[task] for row in done if task in row]
        yield f"{mean(values):.1%}" if values else ""


def vocabulary_chart(rows: Sequence[Row]) -> Chart | None:
    """A chart for each text, with a line for each size of model; means over the seeds."""
    found = by_vocabulary(rows)
    charts = []
    for text in dict.fromkeys(text for text, _, _ in found):
        lines = [
            Series(f"{count(params)}, {seconds:g} s", list(points), list(points.values()))
            for (name, params, seconds), points in found.items()
            if name == text
        ]
        chart = line_chart(lines, title=f"{text}: bits per byte", x_title="tokens", x_axis="log", legend="below")
        for layer in chart.drawing["layer"]:
            axis = {"values": sorted({size for line in lines for size in line.x}), "labelExpr": THOUSANDS}
            layer["encoding"]["x"]["axis"] |= axis
        charts.append(chart)
    return grid(charts) if charts else None


def by_vocabulary(rows: Sequence[Row]) -> dict[tuple[str, int, float], dict[int, float]]:
    """The mean bits per byte over the seeds by vocabulary, for each text, size and seconds that have several."""
    found: dict[tuple[str, int, float], dict[int, list[float]]] = {}
    for row in rows:
        if "failed" not in row and not set(row["tokenizer"]) - {"vocab_size"}:
            place = row["text"], row["params"], row["seconds"]
            found.setdefault(place, {}).setdefault(row["vocabulary"], []).append(row["bits_per_byte"])
    return {
        place: {size: mean(points[size]) for size in sorted(points)}
        for place, points in sorted(found.items())
        if len(points) > 1
    }


def settings_chart(rows: Sequence[Row]) -> Chart | None:
    """The change against the base, in percent, of every seed that has both."""
    points = [
        {"setting": setting, "text": row["text"], "value": 100 * (row["bits_per_byte"] / base["bits_per_byte"] - 1)}
        for row, base, setting in compared(rows)
    ]
    return _dots(points, "Bits per byte, % more than byte-level BPE") if points else None


def answers_chart(rows: Sequence[Row]) -> Chart | None:
    """The shares of right answers, in percent, of every seed."""
    points = [
        {"setting": name_of(row) or "base", "text": said, "value": 100 * row[task]}
        for row in rows
        if set(row["tokenizer"]) != {"vocab_size"}
        for task, said in ANSWERS.items()
        if task in row
    ]
    return _dots(points, "Right answers, %") if points else None


def compared(rows: Sequence[Row]) -> Iterator[tuple[Row, Row, str]]:
    """Each row with another kind, digits or case, the base of the same text, size, seconds and seed, and its name."""
    bases = {_place(row): row for row in rows if not row["tokenizer"]}
    for row in rows:
        setting = name_of(row)
        if setting and set(row["tokenizer"]) != {"vocab_size"} and _place(row) in bases:
            yield row, bases[_place(row)], setting


def name_of(row: Row) -> str:
    """What differs from the base, in words; empty for the base."""
    return ", ".join(str(value) if name == "kind" else f"{name}: {value}" for name, value in row["tokenizer"].items())


def _place(row: Row) -> tuple[Any, ...]:
    return row["text"], row["params"], row["seconds"], row["seed"]


def _dots(points: Sequence[Mapping[str, Any]], title: str) -> Chart:
    """A line for each setting, with a dot for each point, coloured by text."""
    settings, texts = (list(dict.fromkeys(point[key] for point in points)) for key in ("setting", "text"))
    axis = {"grid": True, "minExtent": 90}
    drawing = {
        "data": {"values": list(points)},
        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.85},
        "encoding": {
            "x": {"field": "value", "type": "quantitative", "title": None, "axis": {"format": ",~r"}},
            "y": {"field": "setting", "type": "nominal", "title": None, "sort": settings, "axis": axis},
            "color": {
                "field": "text",
                "type": "nominal",
                "scale": {"domain": texts, "range": PALETTE[: len(texts)]},
                "legend": {"title": None, "orient": "bottom"},
            },
        },
        "width": 380,
        "height": {"step": 26},
        "title": title,
    }
    found = {
        (setting, text): [point["value"] for point in points if (point["setting"], point["text"]) == (setting, text)]
        for setting in settings
        for text in texts
    }
    said = ", ".join(f"{text}, {setting}: {mean(values):.1f}" for (setting, text), values in found.items() if values)
    return Chart(drawing, f"{title}: {said}.")
