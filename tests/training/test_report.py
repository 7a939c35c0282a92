"""The report of a run: it shows what was recorded, however little, and whatever a model wrote."""

import json
import math
import re

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.data.used import note_data
from tinyslm.training.config import RunConfig
from tinyslm.training.metrics import MetricsLog
from tinyslm.training.report import CURVES, draw_curves, how_good, write_report
from tinyslm.training.report_details import data_blocks, settings_blocks

START = {
    "event": "start",
    "time": "2026-01-01 12:00",
    "tokens_per_step": 4096,
    "steps": 40,
    "parameters": 3_100_000,
    "bytes_per_token": 3.57,
    "resumed_from": 0,
}


def step(number, **changed):
    loss = 1.5 + 6 / number
    return {
        "event": "step",
        "step": number,
        "tokens": number * 4096,
        "loss": loss,
        "bits_per_byte": loss / math.log(2) / 3.57,
        "learning_rate": 0.02,
        "gradient_norm": 0.8,
        "tokens_per_second": 9000.0,
        "seconds": number * 0.5,
        **changed,
    }


def write(run, events, **files):
    run.mkdir(parents=True, exist_ok=True)
    with MetricsLog(run / "metrics.jsonl") as log:
        for event in events:
            log.write(event)
    for name, value in files.items():
        (run / f"{name}.json").write_text(json.dumps(value))
    return run


def manifest(path):
    source = {"path": path, "for": "train", "kept_documents": 27_122, "kept_bytes": 5_000_000}
    return {
        "sources": [{**source, "dropped_documents": {"near_duplicates": 3}, "incidents": {"binary_files": 2}}],
        "splits": {"train": {"tokens": 1_234_567, "utf8_bytes": 4_900_000, "documents": 26_000}},
        "tokenizer": {"kind": "bpe", "vocab_size": 4096},
        "files": {"tokens.bin": {"sha256": "abc"}},
    }


def report_of(run):
    path = write_report(run)
    assert path == run / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The report of a finished run of which everything is known."""
    run = tmp_path_factory.mktemp("runs") / "my <run>"
    events = [
        START,
        *(step(number) for number in range(1, 30)),
        {"event": "skipped", "step": 30, "reason": "loss is not finite"},
        *(step(number) for number in range(31, 41)),
        {"event": "validation", "step": 20, "loss": 1.9, "bits_per_byte": 0.77, "seconds": 1.0},
        {"event": "validation", "step": 40, "loss": 1.7, "bits_per_byte": 0.6871, "seconds": 1.0},
        *({"event": "sample", "step": n, "prompt": "Once", "text": f" <b>upon</b> \x1b[31m{n}"} for n in range(1, 40)),
        {
            "event": "end",
            "step": 40,
            "seconds": 3723.0,
            "result": {"bits_per_byte": 0.6812, "baselines": {"unigram": 4.5, "xz -9": 2.25}, "parse": {"ours": 31}},
        },
    ]
    config = {"seed": 1337, "model": {"dim": 256, "family": "qwen3"}, "data": {"paths": ["a.txt", "b.txt"]}}
    write(run, events, config=config, versions={"torch": "2.13.0"})
    note_data(run, write(run / "data", [], manifest=manifest("stories/*.txt")))
    return run, report_of(run)


def test_it_shows_the_figures_and_the_result(whole):
    _, page = whole
    for shown in ("my &lt;run&gt;", "finished", "0.687", "3.1 M", "163.8 k", "1:02:03", "0.681", "unigram", "2.250"):
        assert shown in page
    assert "parse.ours" in page
    assert "1 step did not update the weights" in page
    assert "loss is not finite" in page


def test_it_shows_data_configuration_and_versions(whole):
    _, page = whole
    for shown in (
        "stories/*.txt",
        "27,122",
        "3 near duplicates, 2 binary files",
        "1,234,567",
        "4.9 MB",
        "bpe",
        "1337",
        "qwen3",
        "a.txt, b.txt",
        "2.13.0",
    ):
        assert shown in page
    assert "sha256" not in page


def test_many_sources_are_summed_up_by_folder():
    paths = [f"/texts/{folder}/{number}.txt" for folder in ("a", "b") for number in range(5)] + ["/texts/c.txt"]
    dropped = {"dropped_documents": {"near_duplicates": 1}, "kept_bytes": 1_000, "kept_documents": 2}
    summed, folded, *_ = data_blocks({"sources": [{"path": path, "for": "train", **dropped} for path in paths]})
    assert summed.caption == "Sources in /texts"
    assert summed.rows[0] == ("a/ (5)", "train", "10", "5 kB", "5 near duplicates")
    assert [row[0] for row in summed.rows] == ["a/ (5)", "b/ (5)", "/texts (1)"]
    assert [row[0] for row in folded.blocks[0].rows] == [path.removeprefix("/texts/") for path in paths]


def test_of_many_folders_the_largest_are_listed():
    sources = [
        {"path": f"/texts/{number:02}/{name}", "for": "train", "kept_bytes": number, "kept_documents": 1}
        for number in range(20)
        for name in ("a", "b")
    ]
    summed, *_ = data_blocks({"sources": sources})
    assert [row[0] for row in summed.rows] == [
        *(f"{number:02}/ (2)" for number in range(19, 7, -1)),
        "8 other folders (16)",
    ]
    assert summed.rows[-1][1:4] == ("train", "16", "56 B")


def test_settings_other_than_the_defaults_are_in_words():
    config = RunConfig().model_dump(mode="json")
    config["train"]["batch"] = 77
    changed, _ = settings_blocks(config, {})
    assert changed.rows == [("Sequences in one update", "77", "train.batch")]


def test_one_sentence_says_how_good_the_model_is(whole):
    assert how_good({"bits_per_byte": 1.164, "perplexity": 41.2, "baselines": {"xz -9": 1.635}}) == (
        "For a byte of text that is new to it, the model needs 1.16 bits; without a model it is 8, and the compressor "
        "xz 1.64. On average it hesitates between 41 possible next tokens."
    )
    assert not how_good({"loss": 1.0})
    assert "needs 0.68 bits" in whole[1]


def test_it_shows_all_curves_and_writes_them_as_a_picture(whole):
    run, page = whole
    assert page.count("<svg") == sum(field in step(1) for field, _, _ in CURVES)
    assert (run / "report.png").read_bytes().startswith(b"\x89PNG")


def test_it_shows_samples_of_the_beginning_the_middle_and_the_end(whole):
    _, page = whole
    samples = [int(number) for number in re.findall(r"&lt;b&gt;upon&lt;/b&gt; \\x1b\[31m(\d+)", page)]
    assert samples[:3] == [1, 20, 39]
    assert samples[3:] == sorted(set(samples[3:]) - {1, 20, 39})
    assert 8 <= len(samples) <= 15


def test_curves_have_no_point_where_nothing_was_recorded():
    events = [
        START,
        step(1),
        step(2, loss=None),
        step(3, loss=float("nan")),
        step(4),
        {"event": "validation", "step": 4},
    ]
    loss = draw_curves(events)[0][1]
    assert loss.description == "Loss (nats per token) over tokens: train from 7.5 to 3."


def test_a_run_over_one_row(tmp_path):
    page = report_of(write(tmp_path / "run", [START, step(1)]))
    assert "not finished: 1 of 40 steps" in page
    assert "loss, train" in page
    assert page.count("<svg") == sum(field in step(1) for field, _, _ in CURVES)


@pytest.mark.parametrize("events", [[], [START], [{"event": "start"}], [{"event": "end"}], [{"event": "sample"}]])
def test_a_run_that_recorded_next_to_nothing(tmp_path, events):
    page = report_of(write(tmp_path / "run", events))
    assert "<svg" not in page
    assert not (tmp_path / "run" / "report.png").exists()


def test_rows_with_only_a_step_and_a_loss(tmp_path):
    page = report_of(
        write(tmp_path / "run", [{"event": "step", "step": 1, "loss": 2}, {"event": "step", "step": 2, "loss": 1}])
    )
    assert page.count("<svg") == 1
    assert "over steps: train from 2 to 1" in page


def test_a_killed_and_resumed_run(tmp_path):
    run = write(tmp_path / "run", [START, *(step(number) for number in range(1, 21))])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"event": "step", "step": 21, "lo')
    write(run, [{**START, "resumed_from": 10}, *(step(number) for number in range(11, 16))])
    page = report_of(run)
    assert "not finished: 15 of 40 steps · resumed 1 time" in page


def test_thousands_of_rows_are_thinned(tmp_path):
    run = write(tmp_path / "run", [START, *(step(number) for number in range(1, 3001))])
    assert len(report_of(run)) < 200_000


@pytest.mark.parametrize("absolute", [True, False])
def test_the_shards_may_lie_elsewhere(tmp_path, absolute):
    shards = write(tmp_path / "shards", [], manifest=manifest("31,415 tales"))
    run = write(tmp_path / "run", [START])
    note_data(run, shards)
    if not absolute:
        used = json.loads((run / "data.json").read_text())
        write(run, [], data=used | {"folder": "../shards"})
    assert "31,415 tales" in report_of(run)


def test_what_is_missing_or_damaged_is_left_out(tmp_path):
    run = write(tmp_path / "run", [START], config=[1], data={"folder": "nowhere"})
    (run / "versions.json").write_text("{")
    page = report_of(run)
    assert not {"Versions", "Data", "Configuration"} & set(re.findall("<h2>(.*?)</h2>", page))


def test_the_result_file_adds_to_the_result(tmp_path):
    end = {"event": "end", "step": 1, "seconds": 1.0, "result": {"bits_per_byte": 1.5, "low": 1.45, "high": 1.57}}
    run = write(tmp_path / "run", [START, step(1), end], result={"bits_per_byte": 1.5, "baselines": {"unigram": 4.25}})
    page = report_of(run)
    assert "1.45 to 1.57" in page
    assert "4.250" in page


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(TinyslmError, match=r"metrics\.jsonl"):
        write_report(tmp_path)
