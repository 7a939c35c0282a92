"""Batches: their results, and resuming after interruptions."""

import csv
import json
import subprocess
from pathlib import Path

import pyarrow.parquet
import pytest

from tinyslm.batch.job import BatchJob, journal_path, model_checksum, run_batch, stream_batch
from tinyslm.batch.journal import Journal
from tinyslm.batch.prompts import PromptTemplate
from tinyslm.core.errors import TinyslmError
from tinyslm.core.locks import only_writer
from tinyslm.data.rows import Rows
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.inference.settings import SamplingSettings

SCHEMA = {
    "type": "object",
    "properties": {"price": {"type": "integer", "minimum": 0, "maximum": 99}, "sale": {"type": "boolean"}},
    "required": ["price", "sale"],
    "additionalProperties": False,
}
SHORT = SamplingSettings(max_tokens=6, seed=5)
KILLED = Path(__file__).with_name("killed_batch.py").read_text()


def write_rows(path: Path, count: int) -> Path:
    path.write_text("".join(json.dumps({"id": f"r{n}", "prompt": f"row {n}"}) + "\n" for n in range(1, count + 1)))
    return path


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def batch(
    tmp_path: Path, out: str = "out.jsonl", count: int = 20, template: PromptTemplate | None = None, **options
) -> BatchJob:
    source = tmp_path / "in.jsonl"
    if not source.exists():
        write_rows(source, 20)
    return BatchJob(
        str(source), tmp_path / out, template or PromptTemplate(sampling=SHORT), **{"concurrency": 4, **options}
    )


def test_every_row_is_answered_in_order(engine, tmp_path):
    summary = run_batch(engine, "m", batch(tmp_path, keep=("id",)))
    lines = read_lines(tmp_path / "out.jsonl")
    assert (summary.rows, summary.errors, summary.done_before) == (20, 0, 0)
    assert [(line["row"], line["input"]) for line in lines] == [(n, {"id": f"r{n}"}) for n in range(1, 21)]
    assert sum(line["tokens"] for line in lines) == summary.tokens
    alone = engine.complete("row 3", SHORT.model_copy(update={"seed": 7}))[0]
    assert (lines[2]["text"], lines[2]["finish"]) == (alone.text, alone.finish)
    assert not (tmp_path / "out.jsonl.part").exists()


def test_a_schema_gives_columns(engine, tmp_path):
    template = PromptTemplate(
        constraint=OutputConstraint("schema", SCHEMA), sampling=SamplingSettings(max_tokens=40, seed=1)
    )
    run_batch(engine, "m", batch(tmp_path, "out.csv", template=template, keep=("id",)))
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "id", "price", "sale", "finish", "prompt_tokens", "tokens", "error"]
    assert all(0 <= int(row["price"]) <= 99 and row["sale"] in ("true", "false") for row in rows)
    run_batch(engine, "m", batch(tmp_path, "out.parquet", template=template, keep=("id",)))
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.column("price").to_pylist() == [int(row["price"]) for row in rows]
    assert str(table.schema.field("sale").type) == "bool"


def test_a_row_that_cannot_be_answered_gets_an_error(engine, tmp_path):
    rows = [
        '{"prompt": "fine"}',
        "not JSON",
        '{"nothing": 1}',
        json.dumps({"prompt": "x" * 500}),
        '{"prompt": "a", "schema": {"type": "object", "properties": {"text": {"type": "string", "minLength": 90}},'
        ' "required": ["text"]}}',
        '{"prompt": "a\\ud800b"}',
        '{"prompt": "fine, too"}',
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(rows))
    summary = run_batch(engine, "m", batch(tmp_path))
    lines = read_lines(tmp_path / "out.jsonl")
    assert [line["row"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]
    assert (lines[0]["error"], lines[6]["error"]) == (None, None)
    assert "not valid JSON" in lines[1]["error"]
    assert 'no "prompt"' in lines[2]["error"]
    assert "context is 128" in lines[3]["error"]
    assert "cut off after 6 tokens" in lines[4]["error"]
    assert lines[4]["value"] is None
    assert summary.errors == sum(line["error"] is not None for line in lines) >= 4


def test_a_column_missing_from_the_first_row_stops_at_once(engine, tmp_path):
    with pytest.raises(TinyslmError, match='has no "promt"'):
        run_batch(engine, "m", batch(tmp_path, template=PromptTemplate(column="promt")))
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    assert run_batch(engine, "m", batch(tmp_path, template=PromptTemplate(column="prompt"))).rows == 20


def test_repeating_a_finished_batch_does_nothing(engine, tmp_path):
    run_batch(engine, "m", batch(tmp_path))
    before = (tmp_path / "out.jsonl").read_bytes()
    summary = run_batch(engine, "m", batch(tmp_path))
    assert (summary.rows, summary.done_before, summary.tokens) == (20, 20, 0)
    assert (tmp_path / "out.jsonl").read_bytes() == before


def interrupted(engine, job: BatchJob, after: int) -> None:
    """Run a batch up to so many rows."""

    def progress(done, share):
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch(engine, "m", job, progress)


@pytest.mark.parametrize("out", ["out.jsonl", "out.csv", "out.parquet"])
def test_an_interrupted_batch_resumes(engine, tmp_path, out):
    job = batch(tmp_path, out, concurrency=3)
    interrupted(engine, job, 7)
    assert not job.out.exists()
    summary = run_batch(engine, "m", job)
    assert (summary.rows, summary.done_before) == (20, 7)
    other = batch(tmp_path, f"whole{job.out.suffix}", concurrency=3)
    run_batch(engine, "m", other)
    assert job.out.read_bytes() == other.out.read_bytes()


def test_resumes_after_a_kill_at_any_moment(folder, tmp_path, fork_server):
    """SIGKILL before a result is committed, again and again."""
    source = write_rows(tmp_path / "in.jsonl", 12)
    out = tmp_path / "out.jsonl"
    command = [
        "batch",
        folder,
        source,
        "--out",
        out,
        "--max-tokens",
        "5",
        "--seed",
        "3",
        "--concurrency",
        "4",
        "--json",
    ]
    committed: list[dict] = []
    for dies_at, rows in ((4, 3), (6, 8), (100, 12)):
        killed = [fork_server.python, "-c", KILLED, str(dies_at), *map(str, command)]
        ended = subprocess.run(killed, capture_output=True, text=True, check=False, timeout=100)
        if dies_at == 100:
            assert ended.returncode == 0, ended.stderr
            assert json.loads(ended.stdout)["done_before"] == 8
        else:
            assert ended.returncode == -9, ended.stderr
            assert not out.exists()
            with Journal(journal_path(out), out) as journal:
                results = [record["result"] for _, record in journal]
            assert (results[: len(committed)], len(results)) == (committed, rows)
            committed = results
    assert [line["row"] for line in read_lines(out)] == list(range(1, 13))
    assert read_lines(out)[:8] == committed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "out.jsonl.journal"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"template": PromptTemplate(sampling=SHORT.model_copy(update={"temperature": 0.1}))},
            "temperature: 'default' then, 0.1 now",
        ),
        ({"template": PromptTemplate(sampling=SHORT, constraint=OutputConstraint("regex", "a"))}, "constraint"),
        ({"template": PromptTemplate(sampling=SHORT, system="Be short.")}, "system: '' then, 'Be short.' now"),
        ({"keep": ("id",)}, "keep"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_rejected(engine, tmp_path, change, expected, finished):
    job = batch(tmp_path)
    run_batch(engine, "m", job) if finished else interrupted(engine, job, 5)
    with pytest.raises(TinyslmError, match=expected):
        run_batch(engine, "m", batch(tmp_path, **change))
    with pytest.raises(TinyslmError, match="it used another model"):
        run_batch(engine, "other", job)


def test_changed_rows_are_rejected(engine, tmp_path):
    job = batch(tmp_path)
    interrupted(engine, job, 5)
    source = tmp_path / "in.jsonl"
    whole = source.read_text()
    source.write_text(whole.replace("row 4", "row four"))
    with pytest.raises(TinyslmError, match=r"first 5 rows of .* have changed"):
        run_batch(engine, "m", job)
    source.write_text(whole.replace("row 15", "row fifteen"))  # not done yet: it may change
    run_batch(engine, "m", job)
    source.write_text(whole)
    with pytest.raises(TinyslmError, match="finished 20 rows"):
        run_batch(engine, "m", job)


def test_other_files_are_not_overwritten(engine, tmp_path):
    job = batch(tmp_path)
    job.out.write_text("mine")
    for restart in (False, True):
        with pytest.raises(TinyslmError, match="was not written by a batch"):
            run_batch(engine, "m", job, restart=restart)
        assert job.out.read_text() == "mine"
    job.out.unlink()
    assert run_batch(engine, "m", job).rows == 20


@pytest.mark.parametrize("restart", [False, True])
def test_the_input_is_never_the_output(engine, tmp_path, restart):
    job = batch(tmp_path)
    job.out.symlink_to(job.source)
    for out in (Path(job.source), job.out):
        with pytest.raises(TinyslmError, match="is the input"):
            run_batch(engine, "m", BatchJob(job.source, out, job.template), restart=restart)
    assert len(read_lines(Path(job.source))) == 20


@pytest.mark.parametrize("finished", [True, False])
def test_a_restart_replaces_the_results(engine, tmp_path, finished):
    job, other = batch(tmp_path), batch(tmp_path, template=PromptTemplate(sampling=SHORT, system="Be short."))
    run_batch(engine, "m", job) if finished else interrupted(engine, job, 5)
    reported = []
    summary = run_batch(engine, "n", other, lambda done, share: reported.append(done), restart=True)
    assert (summary.rows, summary.done_before, reported) == (20, 0, list(range(21)))
    assert len(read_lines(job.out)) == 20


@pytest.mark.parametrize("finished", [True, False])
def test_a_restart_that_fails_removes_nothing(engine, tmp_path, finished):
    job = batch(tmp_path)
    run_batch(engine, "m", job) if finished else interrupted(engine, job, 5)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for wrong in (PromptTemplate(template="{{ titel }}"), PromptTemplate(column="titel")):
        with pytest.raises(TinyslmError, match="titel"):
            run_batch(engine, "m", batch(tmp_path, template=wrong), restart=True)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_input_is_closed_when_a_batch_fails(engine, tmp_path, monkeypatch):
    opened = []

    class Watched(Rows):
        def __iter__(self):
            try:
                yield from super().__iter__()
            finally:
                opened.append(self._raw.closed)

    monkeypatch.setattr("tinyslm.batch.job.Rows", Watched)
    interrupted(engine, batch(tmp_path), 5)
    assert opened == [True]


def test_only_one_process_writes_an_output(engine, tmp_path):
    job, other = batch(tmp_path), batch(tmp_path, template=PromptTemplate(sampling=SHORT, system="Be short."))
    with only_writer(journal_path(job.out)):
        for second in (job, other):
            with pytest.raises(TinyslmError, match="is already writing"):
                run_batch(engine, "m", second)
            with pytest.raises(TinyslmError, match="is already writing"):
                run_batch(engine, "m", second, restart=True)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == []


@pytest.mark.parametrize("published", [True, False])
def test_killed_after_the_last_row(engine, tmp_path, monkeypatch, published):
    """After the last row, before or after the output appeared."""
    from tinyslm.batch import job as module

    write_results = module.write_results

    def dies(*arguments):
        if published:
            write_results(*arguments)
        raise KeyboardInterrupt

    job = batch(tmp_path)
    monkeypatch.setattr(module, "write_results", dies)
    with pytest.raises(KeyboardInterrupt):
        run_batch(engine, "m", job)
    monkeypatch.setattr(module, "write_results", write_results)
    summary = run_batch(engine, "m", job)
    assert (summary.rows, summary.done_before, summary.tokens) == (20, 20, 0)
    assert len(read_lines(job.out)) == 20
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "out.jsonl", "out.jsonl.journal"}


def test_a_removed_output_is_written_again(engine, tmp_path):
    job = batch(tmp_path)
    run_batch(engine, "m", job)
    job.out.unlink()
    assert run_batch(engine, "m", job).done_before == 0
    assert len(read_lines(job.out)) == 20


def test_the_number_of_rows_can_be_limited(engine, tmp_path):
    assert run_batch(engine, "m", batch(tmp_path, limit=3)).rows == 3
    assert len(read_lines(tmp_path / "out.jsonl")) == 3


def test_results_can_be_streamed(engine, tmp_path):
    run_batch(engine, "m", batch(tmp_path))
    found = list(stream_batch(engine, batch(tmp_path)))
    assert [done.result for done in found] == read_lines(tmp_path / "out.jsonl")
    assert not any(done.failed for done in found)


def test_progress_reports_rows_and_share(engine, tmp_path):
    reported = []
    run_batch(engine, "m", batch(tmp_path), lambda done, share: reported.append((done, share)))
    assert [done for done, _ in reported] == list(range(21))
    assert reported[-1][1] == 1.0


def test_the_checksum_covers_everything_that_decides_the_output(folder, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "copy")
    assert model_checksum(copy) == model_checksum(folder)
    (copy / "README.md").write_text("other words")
    assert model_checksum(copy) == model_checksum(folder)
    (copy / "tokenizer_config.json").write_text("{}")
    assert model_checksum(copy) != model_checksum(folder)
