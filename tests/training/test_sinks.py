"""TensorBoard and trackio get the same events as metrics.jsonl, and the real libraries read them back."""

import json
import os
import subprocess
import sys

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.training.sinks import SINKS, open_sinks, scalars

EVENTS = [
    {"event": "start", "steps": 4, "resumed_from": 0, "time": "2026-01-01"},
    *({"event": "step", "step": n, "tokens": n * 8, "loss": 5.0 - n, "learning_rate": 0.1} for n in (1, 2, 3)),
    {"event": "skipped", "step": 3, "reason": "loss is not finite"},
    {"event": "validation", "step": 3, "loss": 2.5, "bits_per_byte": None},
    {"event": "sample", "step": 3, "prompt": "Once", "text": " upon\n\x1b[31m*a* time"},
    {"event": "checkpoint", "step": 3, "path": "checkpoints/step-000003"},
]
RESUMED = [
    {"event": "start", "steps": 4, "resumed_from": 2},
    *({"event": "step", "step": n, "tokens": n * 8, "loss": 5.0 - n, "learning_rate": 0.1} for n in (3, 4)),
    {"event": "end", "step": 4, "seconds": 9.0, "result": {"bits_per_byte": 1.5, "baselines": {"unigram": 4.5}}},
]


def write(sink, events):
    for event in events:
        sink.write(event)
    sink.close()


def test_the_numbers_of_an_event():
    assert scalars(EVENTS[1]) == {"train/tokens": 8.0, "train/loss": 4.0, "train/learning_rate": 0.1}
    assert scalars(EVENTS[5]) == {"validation/loss": 2.5}
    assert scalars(RESUMED[-1]) == {"result/bits_per_byte": 1.5, "result/baselines/unigram": 4.5}
    assert scalars(EVENTS[0]) == scalars(EVENTS[4]) == scalars(EVENTS[6]) == {}


def test_an_unknown_sink_is_told_before_any_is_opened(tmp_path):
    with pytest.raises(TinyslmError, match="trackio"):
        open_sinks(["tensorboard", "trackoi"], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", list(SINKS))
def test_a_missing_library_is_told(name, tmp_path, monkeypatch):
    for module in ("tensorboard.summary.writer.event_file_writer", "trackio.sqlite_storage"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TinyslmError, match=r"tinyslm\[tracking\]"):
        open_sinks([name], tmp_path)


def test_tensorboard_reads_back_what_was_written(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(SINKS["tensorboard"](tmp_path), EVENTS)
    write(SINKS["tensorboard"](tmp_path), RESUMED)
    read = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    assert [(point.step, point.value) for point in read.Scalars("train/loss")] == [
        (1, 4.0),
        (2, 3.0),
        (3, 2.0),
        (4, 1.0),
    ]
    assert [point.value for point in read.Scalars("result/baselines/unigram")] == [4.5]


def test_tensorboard_shows_samples_as_they_are(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(SINKS["tensorboard"](tmp_path), EVENTS)
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    (sample,) = read.Tensors("sample")
    assert sample.tensor_proto.string_val[0].decode() == "    Once upon\n    \\x1b[31m*a* time"
    assert read.SummaryMetadata("sample").plugin_data.plugin_name == "text"


TRACKIO = """
import json, socket, sys, threading
from pathlib import Path

def refuse(*arguments, **named):
    raise AssertionError(f"something wanted the network: {arguments}")

socket.socket.connect = socket.socket.bind = socket.getaddrinfo = refuse
from tinyslm.training.sinks import open_sinks
for events in json.loads(sys.argv[2]):
    (sink,) = open_sinks(["trackio"], Path(sys.argv[1]))
    for event in events:
        sink.write(event)
    sink.close()
assert threading.active_count() == 1, threading.enumerate()
from trackio.sqlite_storage import SQLiteStorage
(run,) = SQLiteStorage.get_runs("tinyslm")
print(json.dumps([run, SQLiteStorage.get_logs("tinyslm", run)]))
"""


def test_trackio_reads_back_what_was_written_and_needs_no_network(tmp_path):
    pytest.importorskip("trackio")
    run = tmp_path / "my-run"
    # A new Python: trackio reads TRACKIO_DIR when it is imported. A token and a server must not tempt it.
    environment = {
        **os.environ,
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "HF_TOKEN": "hf_none",
        "TRACKIO_SERVER_URL": "http://localhost:1",
    }
    done = subprocess.run(
        [sys.executable, "-c", TRACKIO, str(run), json.dumps([EVENTS, RESUMED])],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name, rows = json.loads(done.stdout)
    assert name == "my-run"
    assert [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row] == [
        (1, 4.0),
        (2, 3.0),
        (3, 2.0),
        (4, 1.0),
    ]
    assert [row["sample"] for row in rows if "sample" in row] == ["Once upon\n\\x1b[31m*a* time"]
    assert [row["result/bits_per_byte"] for row in rows if "result/bits_per_byte" in row] == [1.5]
