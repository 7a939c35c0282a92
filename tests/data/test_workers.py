import os
import subprocess
import sys

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.data.workers import Workers


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_the_order_of_the_tasks(count):
    with Workers(count) as workers:
        assert list(workers.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        assert list(workers.map(str, [1, 2])) == ["1", "2"]


@pytest.mark.parametrize("count", [1, 2])
def test_errors_arrive_as_they_were_raised(count):
    with pytest.raises(ZeroDivisionError), Workers(count) as workers:
        list(workers.map((1).__truediv__, [1, 0]))


def test_tasks_are_not_read_far_ahead():
    taken = []
    with Workers(2) as workers:
        results = workers.map(abs, (taken.append(number) or number for number in range(100)))
        next(results)
        assert len(taken) <= 6
        assert sum(1 for _ in results) == 99


def test_a_killed_process_is_told():
    with pytest.raises(TinyslmError, match=r"ended before its work was done \(exit code 7\)"), Workers(2) as workers:
        list(workers.map(os._exit, [7]))


def test_scripts_need_no_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from tinyslm.data.workers import Workers\nwith Workers(2) as w:\n    print(list(w.map(abs, [-1, -2])))\n"
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("[1, 2]\n", "")


def test_modules_in_the_current_folder_are_not_imported(tmp_path, monkeypatch) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('the wrong queue')")
    monkeypatch.chdir(tmp_path)
    with Workers(2) as workers:
        assert list(workers.map(abs, [-1, -2, -3])) == [1, 2, 3]
