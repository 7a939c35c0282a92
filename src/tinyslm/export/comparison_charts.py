"""The charts of a comparison: scores with their intervals, and quality against size and speed."""

import json
from collections.abc import Sequence
from typing import Any, Literal

from tinyslm.core.plots import BLUE, FAINT, HEIGHT, INK, ORANGE, WIDTH, Chart
from tinyslm.evaluation.differences import TaskComparison
from tinyslm.export.comparing import Compared

ROW_HEIGHT = 30
LONGEST_NAME = 130
"""Points; the rest of a model's name is not drawn."""
_FIRST_ORANGE = "datum.first"


def draw_quality(models: Sequence[Compared]) -> list[Chart]:
    """Bits per byte against megabytes, and against tokens generated per second; a named point for each model."""
    sized = [model for model in models if model.bits_per_byte is not None and model.bytes]
    fast = [model for model in sized if model.decode]
    charts = []
    if sized:
        megabytes = [(model.bytes or 0) / 1e6 for model in sized]
        charts.append(_points(sized, megabytes, "Bits per byte and size", "megabytes of weights"))
    if fast:
        speeds = [model.decode or 0.0 for model in fast]
        charts.append(_points(fast, speeds, "Bits per byte and speed", "tokens generated per second"))
    return charts


def draw_scores(names: Sequence[str], tasks: Sequence[TaskComparison]) -> list[Chart]:
    """For each task, a dot with its 95 % interval for each model, and a dashed line at chance."""
    return [_dots(names, task) for task in tasks]


def _dots(names: Sequence[str], task: TaskComparison) -> Chart:
    import altair as alt

    rows = [
        {"name": name, "value": score.value, "low": score.low, "high": score.high, "first": index == 0}
        for index, (name, score) in enumerate(zip(names, task.scores, strict=True))
        if score is not None
    ]
    base = alt.Chart(_inline(rows)).encode(
        y=alt.Y(
            "name:N",
            sort=list(names),
            title=None,
            axis=alt.Axis(labelLimit=LONGEST_NAME, labelColor=INK, grid=False),
        ),
        color=alt.condition(_FIRST_ORANGE, alt.value(ORANGE), alt.value(BLUE)),
    )
    x_title = f"{task.metric.replace('_', ' ')}{', less is better' if task.relative else ''}"
    scale = alt.Scale(zero=False, nice=True, padding=8)
    x = alt.X("value:Q", title=x_title, scale=scale, axis=alt.Axis(format=",~r", tickCount=5, gridDash=[1, 0]))
    layers = [
        base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=x_title, scale=scale), x2="high:Q"),
        base.mark_circle(size=80, opacity=1).encode(x=x),
    ]
    if task.chance is not None:
        chance = alt.Chart(_inline([{"value": task.chance}]))
        layers.insert(0, chance.mark_rule(strokeDash=[4, 3], color=FAINT).encode(x=x))
    drawing = alt.layer(*layers).properties(width=WIDTH - 60, height=ROW_HEIGHT * len(names), title=task.task)
    places = ", ".join(f"{row['name']} {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})" for row in rows)
    chance_text = "" if task.chance is None else f" Chance: {task.chance:.3f}."
    return Chart(drawing, f"{task.task}, {x_title}, with 95 % intervals: {places}.{chance_text}")


def _points(models: Sequence[Compared], x: Sequence[float], title: str, x_title: str) -> Chart:
    import altair as alt

    order = sorted(range(len(models)), key=lambda index: x[index])
    rows = [
        {
            "name": model.name,
            "x": place,
            "y": model.bits_per_byte,
            "first": model is models[0],
            # Names go to the left of points far to the right, and in turn above and below: few are cut off or meet.
            "side": ("left" if place > 0.7 * max(x) else "right") + ("above", "below")[order.index(index) % 2],
        }
        for index, (model, place) in enumerate(zip(models, x, strict=True))
    ]
    base = alt.Chart(_inline(rows)).encode(
        x=alt.X("x:Q", title=x_title, scale=alt.Scale(zero=True, padding=24), axis=alt.Axis(grid=False, tickCount=5)),
        y=alt.Y(
            "y:Q",
            title=None,
            scale=alt.Scale(zero=False, nice=False, padding=24),
            axis=alt.Axis(format=",~r", tickCount=5, minExtent=44),
        ),
    )
    colour = alt.condition(_FIRST_ORANGE, alt.value(ORANGE), alt.value(BLUE))
    points = base.mark_circle(size=70, opacity=1).encode(color=colour)
    sides: list[tuple[str, Literal["left", "right"], int]] = [("left", "right", -6), ("right", "left", 6)]
    named = [
        base.transform_filter(f"datum.side == '{side}{height}'")
        .mark_text(align=align, dx=dx, dy=dy, fontSize=11, color=INK)
        .encode(text="name:N")
        for side, align, dx in sides
        for height, dy in (("above", -8), ("below", 9))
    ]
    drawing = alt.layer(points, *named).properties(width=WIDTH, height=HEIGHT, title=title)
    places = ", ".join(f"{row['name']} {row['y']:.4g} at {row['x']:.4g}" for row in rows)
    return Chart(drawing, f"{title} ({x_title}): {places}.")


def _inline(rows: Sequence[dict[str, Any]]) -> Any:
    """Rows as one string: altair copies and checks every value it is given one by one."""
    import altair as alt

    return alt.InlineData(values=json.dumps(rows), format=alt.JsonDataFormat(type="json"))
