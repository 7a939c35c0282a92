"""The charts of a comparison: scores with their intervals, and quality against size and speed."""

from collections.abc import Sequence

from tinyslm.core.plots import BLUE, FAINT, HEIGHT, INK, ORANGE, WIDTH, Chart, along
from tinyslm.evaluation.differences import TaskComparison
from tinyslm.export.comparing import ComparedModel

ROW_HEIGHT = 30
NAME_CHARACTER = 8
LONGEST_NAME = 130
"""Maximum width of a model's name, in points; longer names are cut."""
FIRST_IN_ORANGE = {"condition": {"test": "datum.first", "value": ORANGE}, "value": BLUE}


def draw_quality(models: Sequence[ComparedModel]) -> list[Chart]:
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
    rows = [
        {"name": name, "value": score.value, "low": score.low, "high": score.high, "first": index == 0}
        for index, (name, score) in enumerate(zip(names, task.scores, strict=True))
        if score is not None
    ]
    x_title = f"{task.metric.replace('_', ' ')}{', lower is better' if task.relative else ''}"
    scale = {"zero": False, "nice": True, "padding": 8}
    extent = min(LONGEST_NAME, NAME_CHARACTER * max(map(len, names))) + 8  # the browser's font may be the wider one
    name_axis = {"labelLimit": LONGEST_NAME, "labelColor": INK, "grid": False, "minExtent": extent}
    y = {"field": "name", "type": "nominal", "sort": list(names), "title": None, "axis": name_axis}
    interval = {
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {"x": along("low", x_title, scale, format=",~r", tickCount=5), "x2": {"field": "high"}},
    }
    dot = {"mark": {"type": "circle", "size": 80, "opacity": 1}, "encoding": {"x": along("value", x_title, scale)}}
    shared = {"y": y, "color": FIRST_IN_ORANGE}
    scores = {"data": {"values": rows}, "encoding": shared, "layer": [interval, dot]}
    chance = {
        "data": {"values": [{"chance": task.chance}]},
        "mark": {"type": "rule", "strokeDash": [4, 3], "color": FAINT},
        "encoding": {"x": along("chance", x_title, scale)},
    }
    drawing = {
        "layer": [scores] if task.chance is None else [chance, scores],
        "width": WIDTH - 60,
        "height": ROW_HEIGHT * len(names),
        "title": task.task,
    }
    places = ", ".join(f"{row['name']} {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})" for row in rows)
    guessing = "" if task.chance is None else f" Chance: {task.chance:.3f}."
    return Chart(drawing, f"{task.task}, {x_title}, with 95 % intervals: {places}.{guessing}")


def _points(models: Sequence[ComparedModel], x: Sequence[float], title: str, x_title: str) -> Chart:
    order = sorted(range(len(models)), key=lambda index: x[index])
    rows = [
        {
            "name": model.name,
            "x": place,
            "y": model.bits_per_byte,
            "first": model is models[0],
            # Names of points far to the right go to their left, and names alternate above and below, to avoid overlaps.
            "side": ("left" if place > 0.7 * max(x) else "right") + ("above", "below")[order.index(index) % 2],
        }
        for index, (model, place) in enumerate(zip(models, x, strict=True))
    ]
    points = {"mark": {"type": "circle", "size": 70, "opacity": 1}, "encoding": {"color": FIRST_IN_ORANGE}}
    named = [
        {
            "transform": [{"filter": f"datum.side == '{side}{height}'"}],
            "mark": {"type": "text", "align": align, "dx": dx, "dy": dy, "fontSize": 11, "color": INK},
            "encoding": {"text": {"field": "name", "type": "nominal"}},
        }
        for side, align, dx in (("left", "right", -6), ("right", "left", 6))
        for height, dy in (("above", -8), ("below", 9))
    ]
    drawing = {
        "data": {"values": rows},
        "encoding": {
            "x": along("x", x_title, {"zero": True, "padding": 24}, grid=False, tickCount=5),
            "y": along(
                "y", None, {"zero": False, "nice": False, "padding": 24}, format=",~r", tickCount=5, minExtent=44
            ),
        },
        "layer": [points, *named],
        "width": WIDTH,
        "height": HEIGHT,
        "title": title,
    }
    places = ", ".join(f"{row['name']} {row['y']:.4g} at {row['x']:.4g}" for row in rows)
    return Chart(drawing, f"{title} ({x_title}): {places}.")
