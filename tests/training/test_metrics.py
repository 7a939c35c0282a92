"""metrics.jsonl: killed and resumed runs read as one consistent history."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.core.errors import TinyslmError
from tinyslm.training.metrics import MetricsLog, read_metrics


def step(number, loss=1.0):
    return {"event": "step", "step": number, "loss": loss}


def write(path, events):
    with MetricsLog(path) as log:
        for event in events:
            log.write(event)


def test_what_is_written_is_read(tmp_path):
    events = [
        {"event": "start", "resumed_from": 0, "time": "2026-01-01"},
        step(1),
        {"event": "sample", "step": 1, "prompt": "a", "text": "é\u2028\n\x1b[31m"},
        {"event": "sample", "step": 1, "prompt": "b", "text": ""},
        {"event": "end", "step": 1, "result": {"bits_per_byte": 1.5}},
    ]
    write(tmp_path / "metrics.jsonl", events)
    assert read_metrics(tmp_path / "metrics.jsonl") == events


def test_each_event_is_in_the_file_at_once(tmp_path):
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.write(step(1))
        assert read_metrics(tmp_path / "metrics.jsonl") == [step(1)]


def test_numbers_json_cannot_say_become_null(tmp_path):
    write(tmp_path / "metrics.jsonl", [{"event": "step", "step": 1, "loss": math.nan, "deep": [{"x": math.inf}]}])
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {
        "event": "step",
        "step": 1,
        "loss": None,
        "deep": [{"x": None}],
    }


@given(cut=st.integers(0, 200))
@settings(deadline=None, max_examples=50)
def test_a_file_cut_anywhere_is_read_and_continued(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    events = [step(n) for n in range(1, 6)]
    write(path, events)
    path.write_bytes(path.read_bytes()[:cut])
    whole = path.read_bytes().count(b"\n")
    rows = read_metrics(path)
    assert rows[:whole] == events[:whole]
    write(path, [step(6)])
    assert read_metrics(path) == [*events[:whole], step(6)]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_resumed_run_replaces_what_it_repeats(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [{"event": "start", "resumed_from": 0}, step(1), step(2), step(3, 9.0), step(4, 9.0)])
    write(path, [{"event": "start", "resumed_from": 2}, step(3)])
    rows = read_metrics(path)
    assert [row for row in rows if row["event"] == "step"] == [step(1), step(2), step(3)]
    assert [row["resumed_from"] for row in rows if row["event"] == "start"] == [0, 2]


def test_a_run_that_starts_over_forgets_the_first_try(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [{"event": "start", "resumed_from": 0}, {"event": "validation", "step": 0, "loss": 1.0}, step(1, 9.0)])
    write(path, [{"event": "start", "resumed_from": 0}, step(1)])
    assert read_metrics(path) == [{"event": "start", "resumed_from": 0}, step(1)]


def test_the_later_of_two_rows_counts(tmp_path):
    write(tmp_path / "metrics.jsonl", [step(1, 5.0), step(2), step(1, 4.0)])
    assert sorted(row["loss"] for row in read_metrics(tmp_path / "metrics.jsonl")) == [1.0, 4.0]


def test_lines_that_are_not_events_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'[1]\n\n\xff\xfe\n{"step": 1}\n' + json.dumps(step(2)).encode() + b"\n")
    assert read_metrics(path) == [step(2)]


def test_no_file(tmp_path):
    with pytest.raises(TinyslmError, match=r"metrics\.jsonl"):
        read_metrics(tmp_path / "metrics.jsonl")
