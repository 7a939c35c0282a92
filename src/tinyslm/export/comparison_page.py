"""A comparison as a page, a picture and JSON: quality against size and against speed."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_atomic, write_json
from tinyslm.core.page import Block, Figures, Paragraph, Section, Table, page
from tinyslm.core.plots import BLUE, HEIGHT, INK, ORANGE, WIDTH, Chart, along, grid
from tinyslm.core.quantities import size
from tinyslm.export.comparing import Compared, Comparison

HEADER = ("model", "size", "bits/w", "bits/B", "change", "KL", "read/s", "write/s")
LEGEND = (
    "size: of the weights. bits/w: for each of them. bits/B: bits per byte of the text; less is better. change: of "
    "that, against the first. KL: nats, of the first from this one, where both have the same tokens. read/s, write/s: "
    "tokens per second."
)


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Write `comparison.html`, `.png`, `.svg` and `.json` into a folder; gives the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    charts = draw(comparison.models)
    figures: list[Block] = [Figures([(chart.svg(), chart.description) for chart in charts])]
    sections = [
        Section("Quality against size and speed", figures),
        Section("Figures", [Table([cells(model) for model in comparison.models], HEADER), Paragraph(LEGEND)]),
    ]
    whole = grid(charts)
    write_atomic(out / "comparison.png", whole.png())
    write_atomic(out / "comparison.svg", whole.svg())
    write_json(out / "comparison.json", asdict(comparison))
    write_atomic(out / "comparison.html", page("Comparison", measured_on(comparison), sections))
    return out / "comparison.html"


def check_unused(out: Path) -> None:
    """Raise `TinyslmError` where a comparison, or no folder, is already."""
    if (out / "comparison.html").exists() or (out.exists() and not out.is_dir()):
        raise TinyslmError(f"{out} already holds a comparison or is a file.", "Give another folder with --out.")


def measured_on(comparison: Comparison) -> str:
    """What was scored, in words."""
    return (
        f"Scored on {comparison.tokens:,} tokens ({size(comparison.utf8_bytes)}) in {comparison.passages} passages "
        "from all over the text."
    )


def cells(model: Compared) -> tuple[str, ...]:
    """A model's row of the table, as `HEADER` has it."""
    return (
        model.name,
        size(model.bytes),
        _shown(model.bits_per_weight, ".2f"),
        _shown(model.bits_per_byte, ".4f"),
        _shown(model.change, "+.2%"),
        _shown(model.mean_kl, ".4f"),
        _shown(model.prefill, ",.0f"),
        _shown(model.decode, ",.0f"),
    )


def draw(models: Sequence[Compared]) -> list[Chart]:
    """Bits per byte against megabytes, and against tokens generated per second; a named point for each model."""
    charts = [
        _points(models, [model.bytes / 1e6 for model in models], "Bits per byte and size", "megabytes of weights")
    ]
    fast = [model for model in models if model.decode]
    if fast:
        speeds = [model.decode or 0.0 for model in fast]
        charts.append(_points(fast, speeds, "Bits per byte and speed", "tokens generated per second"))
    return charts


def _points(models: Sequence[Compared], x: Sequence[float], title: str, x_title: str) -> Chart:
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
    colour = {"condition": {"test": "datum.first", "value": ORANGE}, "value": BLUE}
    points = {"mark": {"type": "circle", "size": 70, "opacity": 1}, "encoding": {"color": colour}}
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


def _shown(value: float | None, form: str) -> str:
    """A number, or a dash for none; what rounds to zero has no sign."""
    if value is None:
        return "–"
    text = format(value, form)
    return text if text.strip("-0.%") else format(0.0, form)
