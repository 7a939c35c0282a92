"""The whole course: every page is whole, small, self-contained, and fits desktops and phones."""

from pathlib import Path

import pytest
import torch
from course_pages import PAGES, PHONE, SENTENCE
from torch.nn import functional

from tinyslm.core.errors import TinyslmError
from tinyslm.course.chapters import CHAPTERS
from tinyslm.course.exercises import EXERCISES
from tinyslm.course.subject import Subject
from tinyslm.course.writing import learn

EXERCISE_FILES = [f"exercise-{number}.html" for number in range(1, len([*EXERCISES]) + 1)]
FILES = ["index.html", "teacher.html", *PAGES.values(), *EXERCISE_FILES]
LOOKED_AT = [file for file in FILES if file not in EXERCISE_FILES[1:-1]]
"""All pages of exercises have the same form."""
LARGEST = 5_000_000


def test_there_is_a_page_for_each_chapter(course: Path) -> None:
    assert sorted(path.name for path in course.iterdir()) == sorted(FILES)
    assert all(path.stat().st_size < LARGEST for path in course.iterdir())


@pytest.mark.parametrize("file", LOOKED_AT)
def test_a_page_fits_its_window_and_says_what_it_is(reader, file: str) -> None:
    for options in ({}, PHONE, {"color_scheme": "dark"}):
        page = reader.open(file, **options)
        assert page.locator("h1").count() == 1
        assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth"), options
        for widget in page.locator("[data-widget]").all():
            assert widget.get_attribute("aria-label")
            assert widget.evaluate("(node) => node.childElementCount") > 2, "the widget was started"
        for control in page.locator("input, select, button").all():
            assert control.evaluate("(node) => node.labels?.length || node.textContent.trim() || node.ariaLabel")


def test_the_reader_can_go_through_all_chapters_with_the_keyboard(reader) -> None:
    page = reader.open("index.html")
    page.get_by_role("link").first.focus()
    for name in CHAPTERS:
        page.keyboard.press("Enter")
        page.wait_for_url(f"**-{name}.html")
        assert page.locator("h1").inner_text().endswith(CHAPTERS[name].title)
        page.get_by_role("link").last.focus()


def test_snapshots_go_from_the_untrained_model_to_the_last_update(subject: Subject) -> None:
    steps = [step for step, _ in subject.snapshots]
    assert steps[0] == 0
    assert steps[-1] == 20
    assert len(steps) == 5
    inputs, targets = subject.held_out[:, :-1], subject.held_out[:, 1:].flatten()
    with torch.inference_mode():
        models = (model for _, model in subject.snapshot_models())
        losses = [float(functional.cross_entropy(model(inputs).flatten(0, 1), targets)) for model in models]
    assert losses[-1] < losses[0] - 0.5
    assert losses[0] == pytest.approx(torch.tensor(subject.tokenizer.vocab_size).log().item(), rel=0.1)


def test_nothing_is_written_over_and_sentences_fit(run: Path, tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match="exists already"):
        learn(run, tmp_path)
    for sentence in ("", "word " * 100):
        with pytest.raises(TinyslmError, match="The sentence has"):
            Subject.open(run, sentence)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_run_has_a_course_too(run: Path, tmp_path: Path) -> None:
    contents = learn(run / "model", tmp_path / "course", text=SENTENCE)
    assert sorted(path.name for path in contents.parent.iterdir()) == sorted(FILES)
