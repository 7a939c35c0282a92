"""The page of results has what was measured, in tables that a reader can take in, and says what was not."""

import json
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from tinyslm.evaluation.tasks.loading import load_tasks

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "benchmarks" / "results.json").read_text())
CIRCUMSTANCES = {"command": "python benchmarks/planner.py run", "date": "2026-01-01", "machine": "2 cores"}
EXPECTED = {"bits_per_byte": 2.0, "low": 1.9, "high": 2.1}
RUN = {
    **{"text": "stories", "minutes": 1.0, "bits_per_byte": 2.03, "expected": EXPECTED},
    **{"time_off": 0.02, "memory_off": -0.03},
}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("page")


def test_the_page_is_the_one_that_the_stored_results_make(page: ModuleType) -> None:
    assert (ROOT / "docs" / "results.md").read_text() == page.render(STORED, page.PLOTS)


def test_every_plot_can_be_drawn_from_the_stored_results(page: ModuleType) -> None:
    assert page.draw(STORED).keys() == page.PLOTS.keys()


def test_tables_are_short(page: ModuleType) -> None:
    for area in page.AREAS:
        rows = [row for name, rows in area.sources.items() if name in STORED for row in rows(STORED[name]["result"])]
        assert len(rows) <= 10, area.title


def test_commands_are_those_of_scripts_that_exist(page: ModuleType) -> None:
    for script in re.findall(r"benchmarks/\w+\.py", page.render(STORED, ())):
        assert (ROOT / script).is_file(), script


def test_what_was_not_measured_is_named(page: ModuleType) -> None:
    text = page.render({}, page.draw({}))
    assert text.count("Not measured: ") == len(page.AREAS)
    assert "![" not in text


def test_a_plan_is_compared_with_what_it_promised(page: ModuleType) -> None:
    failed = {"text": "python", "minutes": 1.0, "failed": "error: too little text"}
    later = {**RUN, "text": "python", "minutes": 5.0, "bits_per_byte": 1.9}
    stored = {"planner": {"result": {"runs": [RUN, later, failed]}, **CIRCUMSTANCES}}
    plots = page.draw(stored)
    text = page.render(stored, plots)
    assert "| a plan for 1 minute: stories | 2.030 bits per byte | 2.000 expected |" in text
    assert "time +2.0% to +2.0%, memory -3.0% to -3.0% off" in text
    assert list(plots) == ["plans.svg"]
    assert "(plans.svg)" in text


def test_a_plan_is_compared_with_the_best_of_a_search(page: ModuleType) -> None:
    found = {"text": "stories", "minutes": 1.0, "planned": 2.02, "best": 2.0, "ratio": 1.01, "failed": 1}
    found["rows"] = [{"compared": 2.0}, {"compared": 2.1}]
    unplanned = {**found, "minutes": 5.0, "planned": None, "ratio": None}
    text = page.render({"planner search": {"result": {"searches": [found, unplanned]}, **CIRCUMSTANCES}}, ())
    assert "| 2.020 bits per byte | 2.000, the best of 2 random shapes | 1.010 |" in text
    assert "5 minutes" not in text.partition("## Engine")[0].partition("## Plans")[2]


def test_the_page_of_the_packs_is_the_one_that_the_stored_results_make(page: ModuleType) -> None:
    plots = page.pack_page.draw(STORED)
    assert (ROOT / "docs" / "packs-figures.md").read_text() == page.pack_page.render(STORED, plots)
    for name in plots:
        assert (ROOT / "docs" / name).is_file()


def test_a_row_of_a_pack_keeps_right_and_wrong_answers_and_how_they_came_about(
    page: ModuleType, tmp_path: Path
) -> None:
    pack = import_module("pack")
    (task,) = load_tasks("security_requests", limit=20)
    outcomes = [{"score": number % 2, "hits": 0.25} for number in range(20)]
    score = {"ids": [one.id for one in task.examples], "outcomes": outcomes, "answers": ["a:\n  b"] * 20, "value": 0.5}
    samples = pack.sampled("security", {"security_requests": score})
    assert [one["right"] for one in samples] == [True] * pack.SAMPLES + [False] * pack.SAMPLES
    assert {one["asked"] for one in samples} < {one.asked[-1]["content"] for one in task.examples}
    (tmp_path / "data").mkdir()
    splits = {"train": {"examples": 100, "tokens": 5000}}
    (tmp_path / "data" / "manifest.json").write_text(json.dumps({"splits": splits}))
    events = [{"event": "start", "seconds": 60}, {"event": "step", "step": 3, "tokens": 1000, "seconds": 180}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, events)))
    curve = pack.learning_curve(tmp_path, [(0, {"t": {"value": 0.0}}), (4, {"t": {"value": 0.5}})])
    assert curve == [
        {"step": 0, "minutes": 0.0, "examples": 0, "t": 0.0},
        {"step": 4, "minutes": 2.0, "examples": 20, "t": 0.5},
    ]
    result = {"step": 4, "minutes": 3.0, "new": False, "parameters": 1, "curve": curve, "samples": samples}
    tasks = {"t": {"taught": {"score": [0.5, 0.4, 0.6]}}}
    stored = {"security pack": {"result": {**result, "tasks": tasks}, **CIRCUMSTANCES}}
    text = page.pack_page.render(stored, page.pack_page.draw(stored))
    assert "| `t` | 50.0 % (40.0 to 60.0) |" in text
    assert text.count("score 0: hits 0.25") == pack.SAMPLES
    assert "(pack-security.svg)" in text
    assert "Not measured with a taught model yet." in text  # the others
