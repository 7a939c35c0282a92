"""A small run with snapshots, the course about it, and a browser that reads it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from course_pages import SENTENCE
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tinyslm.course.subject import Subject
from tinyslm.course.writing import write_course
from tinyslm.data.standard_library import documentation
from tinyslm.deploy.page.chromium import PROGRAMS, find_browser
from tinyslm.planning.train import train
from tinyslm.training.pipeline import Watch

SETTINGS = {
    "model": {"dim": 32, "heads": 2, "depth": 2, "context": 64},
    "tokenizer": {"vocab_size": 400},
    "data": {"workers": 1},
    "train": {"steps": 20, "batch": 8, "log_every": 5, "device": "cpu", "snapshots": 4},
}


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of a few seconds on Python's documentation, with its snapshots."""
    folder = tmp_path_factory.mktemp("course")
    text = folder / "text.txt"
    text.write_text("\n\n".join(documentation())[:200_000], encoding="utf-8")
    train([text], folder / "run", settings=SETTINGS)
    return folder / "run"


@pytest.fixture(scope="session")
def subject(run: Path) -> Subject:
    return Subject.open(run, SENTENCE)


@pytest.fixture(scope="session")
def course(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the course about the run."""
    return write_course(subject, tmp_path_factory.mktemp("pages") / "course", Watch()).parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_browser()
    assert program, f"The tests of the course need a browser: install Chromium (looked for {', '.join(PROGRAMS)})."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class Reader:
    """Opens pages of the course; `close` checks that they asked for nothing else and complained about nothing."""

    def __init__(self, browser: Browser, course: Path) -> None:
        self._browser, self._course = browser, course
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    def open(self, file: str, **options: object) -> Page:
        context = self._browser.new_context(**options)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._requested)
        page.goto((self._course / file).as_uri())
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        assert self.complaints == []

    def _requested(self, request) -> None:
        if not request.url.startswith((self._course.as_uri(), "data:")):
            self.complaints.append(request.url)


@pytest.fixture
def reader(browser: Browser, course: Path) -> Iterator[Reader]:
    """Opens pages: `reader.open("1-prediction.html")`."""
    reader = Reader(browser, course)
    yield reader
    reader.close()
