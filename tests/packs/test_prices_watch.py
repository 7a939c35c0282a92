"""`tinyslm watch --pack prices`: pages in; a history, its changes and a plot out."""

import csv
import json
from pathlib import Path

import pytest

from scripted_server import scripted_server
from tinyslm.batch.watch import Stamp, Watch, watch_folder
from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.runtimes.endpoint import Endpoint
from tinyslm.packs.prices.tracking import CHANGES, PLOT, PriceHistory, version_of, watching
from tinyslm.packs.watching import watching_of

VERSIONS = {
    "kettle@2026-11-01": {"price": 30, "currency": "EUR", "availability": "in_stock"},
    "kettle@2026-11-08": {"price": 25, "currency": "EUR"},
    "kettle@2026-11-15": {"availability": "out_of_stock"},
    "kettle@2026-11-22": {"price": 35, "currency": "EUR", "availability": "in_stock"},
    "oats@2026-11-02": {"price": 2, "currency": "EUR", "quantity": 500, "unit": "g"},
    "oats@2026-11-09": {"price": 2, "currency": "EUR", "quantity": 400, "unit": "g"},
}


@pytest.fixture
def watched(tmp_path: Path):
    """Answers the files of a folder as a server with these answers would, and gives the changes."""

    def run(answers: dict[str, dict]) -> list[tuple[str, ...]]:
        (tmp_path / "in").mkdir(exist_ok=True)
        for name in answers:
            (tmp_path / f"in/{name}.html").write_text(f"<h1>{name}</h1>")
        template, follower = watching(tmp_path / "out")
        watch = Watch(tmp_path / "in", tmp_path / "out", template, concurrency=1, follower=follower)
        with scripted_server() as server:
            server.answers = [
                (200, {"choices": [{"message": {"content": json.dumps(fields)}, "finish_reason": "stop"}]})
                for _, fields in sorted(answers.items())
            ]
            outcomes = list(watch_folder(Endpoint(f"{server.url}#first"), watch, lambda: True, once=True))
        assert {one.state for one in outcomes} <= {"done"}, outcomes
        with (tmp_path / "out" / CHANGES).open(newline="") as file:
            return [tuple(row.values())[:5] for row in csv.DictReader(file)]

    return run


def test_pages_become_a_history_of_events(watched, tmp_path: Path) -> None:
    assert watched(VERSIONS) == [
        ("2026-11-08T00:00:00+00:00", "kettle", "dropped", "30", "25"),
        ("2026-11-09T00:00:00+00:00", "oats", "resized", "2", "2"),
        ("2026-11-15T00:00:00+00:00", "kettle", "out_of_stock", "in_stock", "out_of_stock"),
        ("2026-11-22T00:00:00+00:00", "kettle", "back_in_stock", "out_of_stock", "in_stock"),
        ("2026-11-22T00:00:00+00:00", "kettle", "risen", "25", "35"),
    ]
    assert "kettle (EUR)" in (tmp_path / "out" / PLOT).read_text()
    late = watched({"kettle@2026-11-05": {"price": 28, "currency": "EUR"}})
    assert [row[2:] for row in late[:2]] == [("dropped", "30", "28"), ("dropped", "28", "25")]


def test_versions_have_the_time_in_their_name_or_of_the_file() -> None:
    stamp = Stamp(1, 1_764_000_000_000_000_000, 1)
    assert version_of("tea@2026-11-30T06:00.html", stamp) == ("tea", "2026-11-30T06:00:00+00:00")
    assert version_of("tea.html", stamp) == ("tea", "2025-11-24T16:00:00+00:00")
    assert version_of("me@home.html", stamp)[0] == "me@home"


def test_mistakes_are_named(tmp_path: Path) -> None:
    template, follower = watching(tmp_path / "out")
    with pytest.raises(TinyslmError, match="whole files"):
        Watch(tmp_path, tmp_path / "out", template, "line", follower=follower)
    with pytest.raises(TinyslmError, match="Unknown pack"):
        watching_of("logic", tmp_path, template)
    with pytest.raises(TinyslmError, match="says itself"):
        watching_of("prices", tmp_path, template)
    (tmp_path / "prices.sqlite").write_text("no database, but long enough to be mistaken for one" * 20)
    with pytest.raises(TinyslmError, match="cannot be used"):
        PriceHistory(tmp_path).histories()
