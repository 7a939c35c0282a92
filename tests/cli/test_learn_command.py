"""`tinyslm learn start` and `check`, and when pages are opened."""

import json
import sys
from pathlib import Path

import pytest

from tinyslm.cli.learn import has_a_browser


def test_a_starting_file_is_written_once_and_checked(tinyslm) -> None:
    begun = tinyslm("learn", "start", 1)
    assert (begun.code, "tinyslm learn check 1" in begun.out) == (0, True)
    again = tinyslm("learn", "start", 1)
    assert (again.code, "exercise_1.py exists already" in again.err) == (2, True)
    wrong = tinyslm("learn", "check", 1)
    assert wrong.code == 4
    assert "FAILED  The model has one table fewer." in wrong.out
    assert "1 of 4 checks passed." in wrong.out
    Path("exercise_1.py").write_text("1 +")
    unread = tinyslm("learn", "check", 1, "exercise_1.py", "--json")
    assert unread.code == 4
    assert json.loads(unread.out)["problem"] == "Your code raised SyntaxError: invalid syntax (line 1)."


@pytest.mark.parametrize("command", [("start", 13), ("start", 0), ("check", 1), ("start", 1, "--out", "nowhere/a.py")])
def test_what_does_not_exist(tinyslm, command: tuple) -> None:
    ended = tinyslm("learn", *command)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_pages_open_only_for_a_person_at_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    assert not has_a_browser()  # standard output is captured
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert has_a_browser()
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not has_a_browser()
