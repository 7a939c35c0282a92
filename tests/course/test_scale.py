"""The chapter on scale: its plans are the planner's, with and without a plan of the reader's run."""

from dataclasses import replace

import pytest
from course_pages import PAGES, data_of

from tinyslm.core.json_files import read_json
from tinyslm.course.chapters.scale import FEW, MINUTES, _budgets, _Known
from tinyslm.course.subject import Subject
from tinyslm.planning.choice import Budget, Search
from tinyslm.planning.law import conditions, predicted_parts, read_law
from tinyslm.planning.plan import FILE, Plan, plan_of
from tinyslm.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def planned(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The subject as if its run had been planned."""
    known, folder = _Known.of(replace(subject, run=None)), tmp_path_factory.mktemp("planned")
    for file in ("config.json", "result.json", "report.html"):
        (folder / file).write_bytes((subject.run.path / file).read_bytes())
    known.best(10).write(folder / FILE)
    return replace(subject, run=RunFolder(folder))


def test_the_page_shows_what_the_planner_chooses(reader) -> None:
    page = reader.open(PAGES["scale"])
    data = data_of(page, "budgets")
    assert [plan["minutes"] for plan in data["plans"]] == list(MINUTES)
    assert data["yours"] is None, "the text of this run is not that of the plans"
    bits = [plan["bits"][0] for plan in data["plans"]]
    assert bits == sorted(bits, reverse=True), "more time is never worse"
    widget = page.locator('[data-widget="budgets"]')
    widget.get_by_label("time").press("End")
    assert f"{bits[-1]:.3f}" in widget.locator("td").nth(1).text_content()
    sizes = page.locator('[data-widget="sizes"]')
    assert sizes.locator("option").count() <= len(FEW)
    sizes.get_by_role("combobox").select_option(index=sizes.locator("option").count() - 1)
    best = min(data_of(page, "sizes")["budgets"][-1]["sizes"], key=lambda one: one[2])
    assert f"{best[2]:.3f} bits per byte" in sizes.locator(".said").text_content()


def test_a_planned_run_is_shown_on_its_own_curve(planned: Subject) -> None:
    plan = plan_of(planned.run.path)
    known = _Known.of(planned)
    chosen = Search(plan.data, plan.machine, read_law(), {}).choose(Budget(minutes=60))
    assert known.best(60).expectation == Plan.of(chosen, plan.data, plan.machine).expectation
    page = "".join(block.html() for block in _budgets(planned, known))
    reached = read_json(planned.run.result_file)["bits_per_byte"]
    assert f"It reached {reached:.3f}." in page
    assert '"yours":{"minutes":10.0,"bits":' in page


def test_the_parts_of_the_law_add_up(planned: Subject) -> None:
    plan = plan_of(planned.run.path)
    settings = plan.settings
    about = conditions(plan.data, settings.model, settings.train.batch, plan.expectation.steps)
    parts = predicted_parts(read_law().coefficients, about)
    assert parts.total == pytest.approx(plan.expectation.bits_per_byte, abs=1e-4)
    assert max(parts.size, parts.text) < parts.both < parts.size + parts.text
