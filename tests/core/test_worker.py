"""A worker process: what does not survive in it is one failed request."""

import psutil
import pytest
from worker_target import answer

from tinyslm.core.worker import Limits, Worker, WorkerError


@pytest.fixture(scope="module")
def worker():
    made = Worker(f"{answer.__module__}:answer", Limits(cpu_seconds=0, memory=512 << 20, reply=5_000, stack=1 << 20))
    yield made
    made.close()
    assert made.pid is None


@pytest.mark.parametrize(
    ("do", "kind", "detail"),
    [
        ("crash", "ended", "exit code -6"),
        ("raise", "ended", "exit code 0"),
        ("loop", "time", ""),
        ("fill", "memory", ""),
        ("talk", "reply", "more than 5000 bytes"),
    ],
)
def test_a_request_that_fails_is_one_failed_request(worker, do, kind, detail) -> None:
    with pytest.raises(WorkerError) as caught:
        worker.ask({"do": do})
    assert (caught.value.kind, caught.value.detail) == (kind, detail)
    assert worker.ask({"do": "echo", "said": do})["said"] == do
    assert not [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]


def test_the_process_stays_and_knows_no_secrets(worker, monkeypatch) -> None:
    worker.close()
    monkeypatch.setenv("API_TOKEN", "secret")
    assert "API_TOKEN" not in worker.ask({"do": "echo", "said": ""})["variables"]
    before = worker.pid
    worker.ask({"do": "echo", "said": ""})
    assert worker.pid == before


def test_what_is_not_JSON_is_refused_before_it_is_sent(worker) -> None:
    with pytest.raises(TypeError):
        worker.ask({"do": {1, 2}})
