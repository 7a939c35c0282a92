"""The plots of docs/results.md: loss against seconds, what plans expected and how they turned out, what share of a
machine's matrix products steps reach, and tokens per second against the number of streams."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from areas import WITHOUT_BF16
from tinyslm.core.plots import BLUE, FAINT, INK, Chart, Series, line_chart

PLOTS = {
    "stories.svg": "Bits per byte of stories against seconds of training, for each contender",
    "plans.svg": "Measured bits per byte of planned runs against those expected, with their intervals",
    "share-of-ceiling.svg": "Share of the matrix products' own rate that whole training steps reach, against size",
    "engines.svg": "Tokens per second of each engine against the number of streams",
}
SIZE_COLOURS = ["#e07a2f", "#4f9d69", "#8a63b8"]
TEXT_COLOURS = [BLUE, "#e07a2f", "#4f9d69"]
AT_FIRST = 0.04
"""The share of the time that is left out of curves: the loss falls so far in it that later there is little to see."""


def draw(results: Mapping[str, Any]) -> dict[str, str]:
    """The SVG of each plot that the results are enough for, by its name in docs/."""
    found = {name: one["result"] for name, one in results.items()}
    charts: dict[str, Chart] = {}
    if "stories" in found:
        charts["stories.svg"] = stories_chart(found["stories"])
    runs = [one for one in found.get("planner", {}).get("runs", []) if "failed" not in one]
    if len(runs) > 1:
        charts["plans.svg"] = plans_chart(runs)
    kinds = {"bf16": "share of ceiling", "fp32": f"share of ceiling{WITHOUT_BF16}"}
    if shares := {kind: found[name] for kind, name in kinds.items() if len(found.get(name, ())) > 1}:
        charts["share-of-ceiling.svg"] = shares_chart(shares)
    if streams := found.get("engines", {}).get("streams"):
        charts["engines.svg"] = engines_chart(streams)
    return {name: chart.svg(standing_alone=True) for name, chart in charts.items()}


def stories_chart(result: Any) -> Chart:
    """A curve for each contender: ours thick, the peers coloured by size, dashed in bf16."""
    import altair as alt

    found = result["contenders"]
    first = AT_FIRST * 60 * result["minutes"]
    sizes = list(dict.fromkeys(one["size"] for one in sorted(found, key=lambda one: one["parameters"]) if one["size"]))
    style = {}
    for one in found:
        colour = SIZE_COLOURS[sizes.index(one["size"]) % len(SIZE_COLOURS)] if one["size"] else BLUE
        style[one["name"]] = (colour, [5, 3] if one["size"] and one["dtype"] == "bf16" else [1, 0])
    points = [
        {"seconds": seconds, "bits": bits, "name": one["name"], "ours": not one["size"]}
        for one in found
        for seconds, bits in one["curve"]
        if seconds >= first
    ]
    names = sorted(style, key=lambda name: (name.startswith("GPT"), sizes_first(name, sizes), name))
    colour = alt.Color(
        "name:N",
        scale=alt.Scale(domain=names, range=[style[name][0] for name in names]),
        legend=alt.Legend(title=None, symbolSize=300),
    )
    dash = alt.StrokeDash("name:N", scale=alt.Scale(domain=names, range=[style[name][1] for name in names]))
    drawing = (
        alt.Chart(alt.InlineData(values=json.dumps(points), format=alt.JsonDataFormat(type="json")))
        .mark_line(strokeJoin="round")
        .encode(
            x=alt.X("seconds:Q", title="seconds of training", axis=alt.Axis(grid=False, tickCount=6)),
            y=alt.Y(
                "bits:Q",
                title=None,
                scale=alt.Scale(type="log", nice=False, padding=8),
                axis=alt.Axis(format=".2~f", tickCount=6, minExtent=44),
            ),
            color=colour,
            strokeDash=dash,
            strokeWidth=alt.StrokeWidth("ours:N", scale=alt.Scale(domain=[True, False], range=[3.0, 1.5]), legend=None),
        )
        .properties(width=520, height=300, title="Stories: bits per byte of validation text")
    )
    said = ", ".join(f"{one['name']} {one['bits_per_byte']:.3f}" for one in found)
    return Chart(drawing.to_dict(), f"Bits per byte against seconds of training; at the end, on all documents: {said}.")


def sizes_first(name: str, sizes: Sequence[str]) -> int:
    """The place of a peer's size among the others, so that 10M comes after 3M."""
    return next((place for place, size in enumerate(sizes) if f" {size}," in name), -1)


def plans_chart(rows: Sequence[Any]) -> Chart:
    """Measured bits per byte against those expected, with their intervals: on the line is as promised."""
    import altair as alt

    texts = list(dict.fromkeys(row["text"] for row in rows))
    points = [
        {
            **{key: row["expected"][key] for key in ("bits_per_byte", "low", "high")},
            **{"came": row["bits_per_byte"], "text": row["text"], "budget": f"{row['minutes']:g} min"},
        }
        for row in rows
    ]
    budgets = list(dict.fromkeys(f"{minutes:g} min" for minutes in sorted(row["minutes"] for row in rows)))
    ends = [min(min(one["low"], one["came"]) for one in points), max(max(one["high"], one["came"]) for one in points)]
    margin = 0.05 * (ends[1] - ends[0])
    scale = alt.Scale(domain=[ends[0] - margin, ends[1] + margin], nice=False)
    x = alt.X(
        "bits_per_byte:Q",
        title="expected, with the interval",
        scale=scale,
        axis=alt.Axis(format=".2~f", tickCount=6, grid=False),
    )
    y = alt.Y("came:Q", title=None, scale=scale, axis=alt.Axis(format=".2~f", tickCount=6, minExtent=44))
    colour = alt.Color(
        "text:N",
        scale=alt.Scale(domain=texts, range=TEXT_COLOURS[: len(texts)]),
        legend=alt.Legend(title=None, symbolOpacity=1),
    )
    base = alt.Chart(alt.InlineData(values=json.dumps(points), format=alt.JsonDataFormat(type="json")))
    line = alt.Chart(alt.InlineData(values=[{"x": end} for end in scale.domain])).mark_line(
        color=FAINT, strokeDash=[4, 4], strokeWidth=1
    )
    drawing = alt.layer(
        line.encode(x=alt.X("x:Q", scale=scale), y=alt.Y("x:Q", scale=scale)),
        base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(
            x=alt.X("low:Q", scale=scale), x2="high:Q", y=y, color=colour
        ),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x=x,
            y=y,
            color=colour,
            shape=alt.Shape(
                "budget:N", sort=budgets, legend=alt.Legend(title=None, symbolFillColor=INK, symbolStrokeWidth=0)
            ),
        ),
    ).properties(width=340, height=340, title="Plans: measured bits per byte, against expected")
    said = ", ".join(
        f"{row['text']} in {row['minutes']:g} min {row['bits_per_byte']:.3f} instead of "
        f"{row['expected']['bits_per_byte']:.3f}"
        for row in rows
    )
    return Chart(drawing.to_dict(), f"Measured bits per byte against those that plans expected: {said}.")


def shares_chart(found: Mapping[str, Any]) -> Chart:
    """The share against the size, in one line for each kind of processor: its name to the results of all sizes."""
    lines = []
    for name, sizes in found.items():
        points = sorted(
            (one["parameters"], 100 * one["share"]["median"]) for size, one in sizes.items() if "," not in size
        )
        lines.append(Series(name, [x for x, _ in points], [y for _, y in points]))
    title = "Whole training steps, % of the matrix products' own rate"
    return line_chart(lines, title=title, x_title="parameters", x_axis="log", y_axis="zero", legend="bottom")


def engines_chart(found: Mapping[str, Any]) -> Chart:
    """Throughput against the number of streams, a line for each engine."""
    import altair as alt

    points = [
        {"streams": int(count), "rate": rate, "engine": name}
        for count, one in found.items()
        for name, rate in one["tokens_per_second"].items()
    ]
    counts = sorted({point["streams"] for point in points})
    x_scale = alt.Scale(type="log", base=2, nice=False, padding=12)
    order = alt.EncodingSortField("rate", "max", "descending")
    drawing = (
        alt.Chart(alt.InlineData(values=points))
        .mark_line(point=alt.OverlayMarkDef(size=30, filled=True), strokeWidth=1.8)
        .encode(
            x=alt.X("streams:Q", title="streams at once", scale=x_scale, axis=alt.Axis(values=counts, grid=False)),
            y=alt.Y("rate:Q", title=None, axis=alt.Axis(format=",~r")),
            color=alt.Color("engine:N", sort=order, legend=alt.Legend(title=None, labelLimit=300)),
        )
        .properties(width=520, height=300, title="Decoded tokens per second in all, SmolLM2-135M-Instruct")
    )
    ends = found[str(counts[-1])]["tokens_per_second"]
    rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in ends.items())
    return Chart(
        drawing.to_dict(), f"Decoded tokens per second against the number of streams; with {counts[-1]}: {rates}."
    )
