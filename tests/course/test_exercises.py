"""The exercises: the starting file fails, the solution passes, typical mistakes are named."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.course.checking import ExerciseResult, check_exercise
from tinyslm.course.exercises import EXERCISES
from tinyslm.course.exercises.starting import start_of

SOLUTIONS = Path(__file__).parent / "solutions"
NAMES = list(EXERCISES)


def solution_of(name: str) -> ModuleType:
    """EDITS make the solution of the starting file; WRONG: (what is wrong, edits of the solution, number of the check
    that finds it, a part of what it says)."""
    spec = importlib.util.spec_from_file_location(f"solution_of_{name}", SOLUTIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def edited(text: str, edits: list[tuple[str, str]]) -> str:
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return text


def solved(name: str) -> str:
    return edited(start_of(NAMES.index(name) + 1), solution_of(name).EDITS)


def checked(name: str, text: str, folder: Path, **options: int) -> ExerciseResult:
    file = folder / "file.py"
    file.write_text(text, encoding="utf-8")
    return check_exercise(NAMES.index(name) + 1, file, **options)


@pytest.mark.parametrize("name", NAMES)
def test_the_starting_file_fails_and_the_solution_passes(name: str, tmp_path: Path) -> None:
    begun = checked(name, start_of(NAMES.index(name) + 1), tmp_path)
    assert not begun.problem
    assert not begun.passed
    assert all(check.message for check in begun.checks if not check.passed)
    done = checked(name, solved(name), tmp_path)
    assert [check.message for check in done.checks] == [""] * len(EXERCISES[name].checks), done.problem
    assert done.passed


@pytest.mark.parametrize(
    ("name", "wrong"),
    [pytest.param(name, one, id=f"{name}: {one[0]}") for name in NAMES for one in solution_of(name).WRONG],
)
def test_a_typical_mistake_is_named(name: str, wrong: tuple, tmp_path: Path) -> None:
    _, edits, place, part = wrong
    verdict = checked(name, edited(solved(name), edits), tmp_path)
    found = verdict.checks[place - 1]
    assert not found.passed
    assert part in found.message, [check.message for check in verdict.checks]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("x = 1\nx +\n", "Your code raised SyntaxError: invalid syntax (line 2)."),
        ("import torch\n\ntorch.zeros(2) @ torch.zeros(3)\n", "(line 3)."),
        ("x = [0] * 10**11\n", "Your code raised MemoryError (line 1)."),
        ("raise SystemExit(0)\n", "Your code raised SystemExit: 0 (line 1)."),
        ("import os\nos._exit(0)\n", "Your code ended the process in which it was checked."),
        ("while True:\n    pass\n", "is there an infinite loop?"),
    ],
)
def test_code_that_does_not_run_is_explained(code: str, problem: str, tmp_path: Path) -> None:
    verdict = checked("tying", code, tmp_path, seconds=1)
    assert not verdict.passed
    assert problem in verdict.problem
    assert verdict.checks == []


def test_a_loop_in_one_check_leaves_the_results_before_it(tmp_path: Path) -> None:
    looping = "    def forward(self, ids_bt):\n"
    verdict = checked("tying", edited(solved("tying"), [(looping, looping + "        while True: pass\n")]), tmp_path,
                      seconds=1)  # fmt: skip
    assert [check.passed for check in verdict.checks] == [True, False, False, False]
    assert "loop" in verdict.checks[1].message
    assert "Not checked" in verdict.checks[2].message


def test_files_and_numbers_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match=r"nothing\.py does not exist"):
        check_exercise(1, tmp_path / "nothing.py")
    (tmp_path / "file.txt").write_text("")
    for file in (tmp_path, tmp_path / "file.txt"):
        with pytest.raises(TinyslmError, match="is not a Python file"):
            check_exercise(1, file)
    (tmp_path / "file.py").write_text("")
    with pytest.raises(TinyslmError, match="There is no exercise 99"):
        check_exercise(99, tmp_path / "exercise_99.py")
    for number in (0, len(NAMES) + 1):
        with pytest.raises(TinyslmError, match=f"There is no exercise {number}"):
            check_exercise(number, tmp_path / "file.py")
