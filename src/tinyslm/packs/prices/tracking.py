"""`tinyslm watch --pack prices`: the history of prices of the pages in a folder.

A file is a version of the page that it is named after: `kettle.html`, at the time when it was last written, or
`kettle@2026-11-30.html`, at the time in its name. In the folder of results, `prices.sqlite` holds the fields of each
version, `changes.csv` the events, and `prices.svg` shows the prices over time.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tinyslm.batch.prompts import PromptTemplate
from tinyslm.batch.watch import Follower, Stamp
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_atomic
from tinyslm.core.plots import BLUE, Chart, grid
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.inference.settings import SamplingSettings
from tinyslm.packs.prices.events import Event, replay
from tinyslm.packs.prices.fields import schema, unit_price_fits
from tinyslm.packs.prices.pages import read_page
from tinyslm.packs.prices.skills import LONGEST, SYSTEM

DATABASE, CHANGES, PLOT = "prices.sqlite", "changes.csv", "prices.svg"
MOST_PLOTTED = 12
"""Products in the plot: those with the latest events."""
_COLUMNS = ("time", "product", "event", "before", "after", "currency", "consistent")
_COLOURS = {
    **{"dropped": "#2a9d76", "risen": "#cf4a63", "resized": "#9160d1"},
    **{"out_of_stock": "#7d8691", "back_in_stock": "#e07a2f"},
}


class Version(NamedTuple):
    """The fields of a page at a time (ISO 8601, UTC)."""

    time: str
    fields: dict[str, Any]


def watching(out: Path) -> tuple[PromptTemplate, Follower]:
    """How pages are asked about, and the history in `out` that follows from the answers."""
    template = PromptTemplate(
        column="text",
        system=SYSTEM,
        chat=True,
        constraint=OutputConstraint("schema", schema()),
        sampling=SamplingSettings(temperature=0.0, max_tokens=LONGEST),
    )
    return template, PriceHistory(out)


class PriceHistory(Follower):
    """The versions of all pages."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def read(self, path: Path) -> str:
        """See `read_page`."""
        return read_page(path)

    def add(self, name: str, stamp: Stamp, result: Mapping[str, Any]) -> None:
        """Store a version of a page; the same version again replaces itself."""
        product, time = version_of(name, stamp)
        with self._open() as database:
            row = (product, time, name, json.dumps(result.get("value") or {}, ensure_ascii=False))
            database.execute("INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?)", row)

    def report(self) -> None:
        """Write the events of all pages and the plot."""
        histories = self.histories()
        events = {product: replay(one.fields for one in versions) for product, versions in histories.items()}
        lines = sorted(line for product in histories for line in _lines(product, histories[product], events[product]))
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerows([_COLUMNS, *lines])
        write_atomic(self._out / CHANGES, text.getvalue())
        latest = list(dict.fromkeys(str(line[1]) for line in reversed(lines)))
        shown = [one for one in dict.fromkeys([*latest, *histories]) if any(_priced(histories[one]))][:MOST_PLOTTED]
        if shown:
            charts = [price_chart(one, histories[one], events[one]) for one in shown]
            write_atomic(self._out / PLOT, grid(charts).svg(standing_alone=True))

    def histories(self) -> dict[str, list[Version]]:
        """The versions of each page, in the order of their time."""
        found: dict[str, list[Version]] = {}
        with self._open() as database:
            for product, time, fields in database.execute(
                "SELECT product, time, fields FROM versions ORDER BY product, time"
            ):
                found.setdefault(product, []).append(Version(time, json.loads(fields)))
        return found

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        path = self._out / DATABASE
        try:
            with closing(sqlite3.connect(path)) as database, database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS versions"
                    " (product TEXT, time TEXT, file TEXT, fields TEXT, PRIMARY KEY (product, time))"
                )
                yield database
        except sqlite3.Error as error:
            raise TinyslmError(f"{path} cannot be used: {error}.", "Remove it, or give another --out.") from None


def version_of(name: str, stamp: Stamp) -> tuple[str, str]:
    """The page that a file is a version of, and its time."""
    product, at, written = Path(name).stem.rpartition("@")
    try:
        time = datetime.fromisoformat(written) if at else None
    except ValueError:
        time = None
    if time is None:
        return Path(name).stem, datetime.fromtimestamp(stamp.mtime_ns / 1e9, UTC).isoformat(timespec="seconds")
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return product, time.isoformat(timespec="seconds")


def price_chart(product: str, versions: list[Version], events: list[list[Event]]) -> Chart:
    """The price of a product over time, with a dot for each event; no line while it is out of stock."""
    points, dots, known = [], [], {"availability": ""}
    for version, happened in zip(versions, events, strict=True):
        known |= {name: version.fields[name] for name in ("price", "availability") if name in version.fields}
        price = known.get("price")
        points.append({"time": version.time, "price": None if known["availability"] == "out_of_stock" else price})
        dots += [{"time": version.time, "price": price, "event": one.kind} for one in happened]
    currency = next((one.fields["currency"] for one in versions if "currency" in one.fields), "")
    names = [name for name in _COLOURS if any(dot["event"] == name for dot in dots)]
    axis = {"field": "price", "type": "quantitative", "title": None, "scale": {"zero": False, "padding": 10}}
    time = {"field": "time", "type": "temporal", "title": None, "axis": {"labelOverlap": True, "grid": False}}
    colour = {"scale": {"domain": names, "range": [_COLOURS[name] for name in names]}, "type": "nominal"}
    legend = {"title": None, "orient": "bottom"}
    line = {"type": "line", "interpolate": "step-after", "color": BLUE, "strokeWidth": 1.8, "point": {"size": 14}}
    drawing = {
        "layer": [
            {"data": {"values": points}, "mark": line, "encoding": {"x": time, "y": axis}},
            {
                "data": {"values": dots},
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {"x": time, "y": axis, "color": {"field": "event", **colour, "legend": legend}},
            },
        ],
        "width": 340,
        "height": 150,
        "title": f"{product} ({currency})" if currency else product,
    }
    return Chart(drawing, f"The price of {product} over time, with {len(dots)} events.")


def _priced(versions: list[Version]) -> Iterator[bool]:
    return ("price" in one.fields for one in versions)


def _lines(product: str, versions: list[Version], events: list[list[Event]]) -> Iterator[tuple[str, ...]]:
    """The events of a page as lines of the table, with whether its unit price fits."""
    for version, happened in zip(versions, events, strict=True):
        fits = "yes" if unit_price_fits(version.fields) else "no"
        for kind, before, after in happened:
            currency = str(version.fields.get("currency", ""))
            yield version.time, product, kind, str(before), str(after), currency, fits
