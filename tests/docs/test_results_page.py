"""The page of results says what is not measured, and shows what is, whatever shape its results were kept in."""

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CIRCUMSTANCES = {
    **{"command": "python benchmarks/x.py", "date": "2026-01-01", "machine": "2 cores"},
    **{"gflops_bf16": 400, "gflops_fp32": 200},
}
PROMISED = {"bits_per_byte": 2.0, "low": 1.9, "high": 2.1, "memory_bytes": 500_000_000}
SHAPE = {"dim": 64, "depth": 2, "context": 128, "batch": 8, "vocab_size": 1024}
RUN = {
    **{"text": "stories", "minutes": 1.0, "seconds": 61.2, "peak_bytes": 510_000_000, "bits_per_byte": 2.03},
    **{"parameters": 150_000, "expected": PROMISED, "shape": SHAPE},
    **{"time_off": 0.02, "memory_off": 0.02, "bits_off": 0.03},
}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("render")


@pytest.fixture
def training(page: ModuleType) -> ModuleType:
    return import_module("render_training")


def test_results_that_are_kept_make_a_page(page: ModuleType, training: ModuleType) -> None:
    kept = json.loads((BENCHMARKS / "results.json").read_text())
    text = page.render(kept, training.draw(kept))
    assert all(f"`{one['command']}`" in text for name, one in kept.items() if page.ROWS[name](one["result"]))


def test_nothing_measured_is_said_for_each_benchmark(page: ModuleType, training: ModuleType) -> None:
    assert page.render({}, training.draw({})).count("| not measured |") == len(page.ROWS)


@pytest.mark.parametrize("name", ["stories", "planner", "planner search", "seeds"])
def test_a_result_of_another_shape_counts_as_not_measured(name: str, page: ModuleType, training: ModuleType) -> None:
    kept = {name: {"result": {"minutes": 5.0, "results": {}}, **CIRCUMSTANCES}}
    assert training.draw(kept) == {}
    assert f"| {name} | not measured |" in page.render(kept, {})


def test_planned_runs_are_told_with_what_they_are_off_by(page: ModuleType, training: ModuleType) -> None:
    failed = {"text": "python", "minutes": 1.0, "failed": "error: too little text\nGive more text."}
    later = {**RUN, "minutes": 5.0, "bits_per_byte": 1.9}
    kept = {"planner": {"result": {"runs": [RUN, later, failed]}, **CIRCUMSTANCES}}
    pictures = training.draw(kept)
    text = page.render(kept, pictures)
    assert "ended after 61.2 s (+2.0%)" in text
    assert "2.0300 bits per byte, 2.000 (1.900 to 2.100) expected (+0.030)" in text
    assert "failed: error: too little text" in text
    assert list(pictures) == ["plans.svg"]
    assert "(plans.svg)" in text
    assert "stories" in pictures["plans.svg"]
    assert "python" not in pictures["plans.svg"]


def test_a_plan_is_told_beside_the_best_of_a_search(page: ModuleType) -> None:
    found = {
        **{"text": "stories", "minutes": 1.0, "planned": 2.02, "best": 2.0, "ratio": 1.01, "failed": 1},
        "rows": [{"compared": 2.0}, {"compared": 2.1}],
    }
    unplanned = {**found, "minutes": 5.0, "planned": None, "ratio": None}
    kept = {"planner search": {"result": {"searches": [found, unplanned]}, **CIRCUMSTANCES}}
    text = page.render(kept)
    assert "2.0200 bits per byte planned, 2.0000 the best of 2, 1 more failed: 1.010 times; 1 of 2 are better" in text
    assert "not measured: 2 of the search, 1 more failed, and no plan to compare" in text
