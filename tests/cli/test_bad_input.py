"""Bad input: a clear message in two lines, exit code 2, and nothing lost or left behind."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from the_command import TINY, entries

from sentences import sentences
from tinyslm.data.shards import Shards


def jsonl(path: Path, broken: int) -> None:
    """40 lines of JSON, one of them broken."""
    lines = [json.dumps({"text": sentences(5, seed=number)}) for number in range(40)]
    lines[broken - 1] = '{"text": "no end'
    path.write_text("\n".join(lines) + "\n")


def test_no_such_path(tinyslm, tmp_path: Path, finished: Path) -> None:
    for command in (
        ["train", "nowhere", "--out", "run"],
        ["data", "prepare", "nowhere", "--out", "shards"],
        ["tokenizer", "train", "nowhere", "--out", "tokenizer"],
        ["evaluate", finished, "nowhere"],
        ["quickstart", "--text", "nowhere"],
    ):
        assert "nowhere does not exist. Check the path" in tinyslm(*command).mistake()
    assert "Nothing matches *.txt." in tinyslm("train", "*.txt", "--out", "run").mistake()
    assert "nowhere does not exist." in tinyslm("generate", "nowhere").mistake()
    assert "nowhere does not exist." in tinyslm("train", "a", "--out", "run", "--tokenizer", "nowhere").mistake()
    assert "nowhere.toml: No such file" in tinyslm("train", "a", "--out", "run", "--config", "nowhere.toml").mistake()
    assert "There is no run in nowhere." in tinyslm("train", "--resume", "nowhere").mistake()
    assert "nowhere does not exist." in tinyslm("show", "nowhere").mistake()
    assert "Run folder" not in tinyslm("train", "nowhere").out
    for command in (
        ["quantize", "nowhere", "--out", "q"],
        ["packs", "train", "logic", "--model", "nowhere", "--out", "q"],
    ):
        assert "nowhere does not exist. Give a model folder" in tinyslm(*command).mistake()
    Path("empty").mkdir()
    words = "empty is not a model folder, shards folder, run folder or file with a curve"
    assert words in tinyslm("show", "empty").mistake()
    Path("empty").rmdir()
    assert not entries(tmp_path)


def test_a_file_where_a_folder_is_meant_and_the_other_way_round(tinyslm, tmp_path: Path, finished: Path) -> None:
    Path("a.png").write_bytes(bytes(range(256)) * 20)
    Path("folder").mkdir()
    before = entries(tmp_path)
    assert "a.png is a file, not a model folder." in tinyslm("quantize", "a.png", "--out", "q").mistake()
    for command in (
        ["evaluate", finished, "--tasks", "grammar", "--limit", "1"],
        ["card", finished],
        ["batch", finished, "a.png"],
        ["agent", finished, "hello", "--trace"],
    ):
        option = [] if command[-1] == "--trace" else ["--out"]
        said = tinyslm(*command, *option, "folder").mistake()
        assert "folder: Is a directory. A file is written here" in said or "format of folder is unknown" in said
    assert "a folder is needed here" in tinyslm("export", finished, "--to", "gguf", "--out", "a.png").mistake().lower()
    for command in (["export", finished, "--to", "gguf"], ["quantize", finished]):
        said = tinyslm(*command, "--out", "faq.gguf").mistake()
        assert "faq.gguf: a folder is written, and this is the name of a file. Give a folder: faq" in said
    assert entries(tmp_path) == before


def test_a_folder_without_text(tinyslm, tmp_path: Path) -> None:
    Path("empty").mkdir()
    Path("binaries").mkdir()
    for name in ("a.png", "b.bin"):
        Path("binaries", name).write_bytes(bytes(range(256)) * 20)
    Path("blank").mkdir()
    Path("blank", "a.txt").write_text("\n\n  \n")
    before = entries(tmp_path)
    for out in ("run", "deep/run"):
        assert "empty has no file to read." in tinyslm("train", "empty", "--out", out, *TINY).mistake()
        said = tinyslm("train", "binaries", "--out", out, *TINY).mistake()
        assert "No text was found in binaries (binary files: 2" in said
        assert ".jsonl, .csv or .parquet" in said
        assert "No text was found in blank" in tinyslm("train", "blank", "--out", out, *TINY).mistake()
        assert entries(tmp_path) == before


def test_bytes_that_are_not_utf8_are_counted(tinyslm, texts: Path) -> None:
    shutil.copytree(texts, "mixed")
    Path("mixed", "00.txt").write_bytes(b"caf\xe9 " + sentences(5).encode())
    Path("mixed", "01.txt").write_bytes("été ".encode() + b"caf\xe9 " + sentences(6).encode())
    ended = tinyslm("data", "prepare", "mixed", "--out", "shards")
    assert ended.code == 0
    assert "warning: 1 file is not UTF-8; read as windows-1252: mixed/00.txt." in ended.err
    assert "warning: 1 sequence of bytes could not be decoded and became U+FFFD: mixed/01.txt:1." in ended.err
    incidents = Shards.open(Path("shards")).manifest["sources"][0]["incidents"]
    assert (incidents["read_as_windows-1252"], incidents["undecodable_bytes"]) == (1, 1)
    refused = tinyslm("data", "prepare", "mixed", "--out", "other", "--data.encoding", "windws-1252").mistake()
    assert 'there is no encoding "windws-1252" (Did you mean "windows-1252"?)' in refused


def test_a_tiny_text_says_how_much_is_needed(tinyslm, tmp_path: Path) -> None:
    Path("tiny.txt").write_text("Once upon a time.\n")
    for command in (["train", *TINY], ["data", "prepare"]):
        said = tinyslm(*command, "tiny.txt", "--out", "out").mistake()
        assert "too little text: 18 B to train on; the minimum is 2 kB" in said
    assert entries(tmp_path) == {"tiny.txt"}


def test_too_little_text_for_the_context(tinyslm) -> None:
    Path("short.txt").write_text(sentences(50))
    said = tinyslm("train", "short.txt", "--out", "run", *TINY, "--model.context", "8192").mistake()
    assert "8192" in said
    assert not Path("run", "config.json").exists()  # the run has not begun: the same --out can be used again
    assert tinyslm("train", "short.txt", "--out", "run", *TINY).code == 0


def test_one_very_long_line(program) -> None:
    line = sentences(20).replace("\n", " ").encode()
    with Path("long.txt").open("wb") as file:
        for _ in range(30_000_000 // len(line) + 1):
            file.write(line)
    ended = program("data", "prepare", "long.txt", "--out", "shards", "--tokenizer.kind", "byte")
    assert ended.code == 0, ended.err
    assert json.loads(Path("shards/manifest.json").read_text())["splits"]["train"]["utf8_bytes"] > 25_000_000


def test_a_table_without_a_text_column_names_the_columns(tinyslm, finished: Path) -> None:
    mottos = (sentences(2, seed=number).strip().replace(" ", "_") for number in range(60))  # words, but no prose
    rows = "".join(f'{number},"{motto}"\n' for number, motto in enumerate(mottos))
    Path("table.csv").write_text("id,motto\n" + rows)
    for command in (["train", *TINY], ["data", "prepare"], ["tokenizer", "train"]):
        said = tinyslm(*command, "table.csv", "--out", "out").mistake()
        assert "table.csv has no column that is known to hold text; its columns: id, motto." in said
        assert "--data.text_column NAME" in said
        assert not Path("out").exists()
        assert tinyslm(*command, "table.csv", "--out", command[0], "--data.text_column", "motto").code == 0
    assert "its columns: id, motto" in tinyslm("evaluate", finished, "table.csv").mistake()
    assert tinyslm("evaluate", finished, "table.csv", "--data.text_column", "motto").code == 0


def test_a_broken_line_is_skipped_and_counted_or_stops(tinyslm, tmp_path: Path) -> None:
    jsonl(Path("rows.jsonl"), broken=7)
    ended = tinyslm("data", "prepare", "rows.jsonl", "--out", "shards")
    assert ended.code == 0
    assert "warning: 1 line that is not a JSON object was skipped: rows.jsonl:7." in ended.err
    before = entries(tmp_path)
    for command in (["train", *TINY], ["data", "prepare"]):
        assert "rows.jsonl:7 is not valid JSON" in tinyslm(*command, "rows.jsonl", "--out", "x", "--strict").mistake()
    said = tinyslm("tokenizer", "train", "rows.jsonl", "--out", "x", "--data.strict").mistake()
    assert "rows.jsonl:7 is not valid JSON" in said
    assert entries(tmp_path) == before


def test_a_vocabulary_larger_than_the_text_supports(tinyslm, tmp_path: Path, texts: Path) -> None:
    for command in (
        ["train", *TINY, "--tokenizer.vocab_size", "8192"],
        ["data", "prepare", "--tokenizer.vocab_size", "8192"],
        ["tokenizer", "train", "--tokenizer.vocab_size", "8192"],
        ["tokenizer", "train", "--vocab-size", "8192"],
    ):
        said = tinyslm(*command, texts, "--out", "out").mistake()
        assert "A vocabulary of 8192 is too large for this text" in said
        assert "Ask for a vocabulary of at most 320" in said or "at most 384" in said
    assert not entries(tmp_path)


def test_all_wrong_settings_are_told_at_once(tinyslm, tmp_path: Path) -> None:
    Path("run.toml").write_text('[model]\ndeep = 3\n[trane]\nsteps = 1\n[train]\nbatch = "four"\n')
    said = tinyslm("train", "texts", "--out", "run", "--config", "run.toml").mistake()
    assert said.startswith("error: 3 mistakes in run.toml: ")
    assert 'there is no setting "model.deep" (Did you mean "model.depth"?)' in said
    assert 'there is no setting "trane" (Did you mean "train"?)' in said
    assert "train.batch = four: must be a whole number" in said
    mistakes = "model.dept=3 trian.steps=4 train.steps=-1 train.compile=maybe data.valid_share=2"
    wrong = [f"--{mistake}" for mistake in mistakes.split()]
    for command in ("train", "data prepare", "tokenizer train"):
        said = tinyslm(*command.split(), "texts", "--out", "run", *wrong).mistake()
        assert said.startswith("error: 5 mistakes in the settings: ")
        assert '"model.dept" (Did you mean "model.depth"?)' in said
        assert '"trian" (Did you mean "train"?)' in said
        assert "train.steps = -1: must be greater than or equal to 0" in said
        assert "train.compile = maybe: must be 'auto', 'on' or 'off'" in said
        assert "data.valid_share = 2: must be less than or equal to 0.5" in said
    assert entries(tmp_path) == {"run.toml"}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("run.toml", "[model", "run.toml is not valid TOML: "),
        ("run.yaml", "model:\n  dim: [1\n", "run.yaml is not valid YAML: "),
        ("run.toml", "model = 3", "model = 3: must be a section with settings of its own"),
        ("run.yaml", "- 1", "run.yaml holds no sections."),
    ],
)
def test_a_broken_config_file(tinyslm, name: str, content: str, expected: str) -> None:
    Path(name).write_text(content)
    assert expected in tinyslm("train", "texts", "--out", "run", "--config", name).mistake()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("--model.dim 30 --model.heads 4", "dim (30) must be a multiple of heads (4)"),
        ("--model.dim 96 --model.head_dim 64", "dim (96) must be a multiple of head_dim (64)"),
        ("--model.family lama", 'there is no family "lama". Did you mean "llama"?'),
        ("--train.batch 4 --train.micro_batch 3", "batch (4) must be a multiple of micro_batch (3)"),
        ("--train.sinks foo", 'Unknown sink "foo". Allowed: tensorboard, trackio.'),
        ("--train.device tpu", 'Unknown device "tpu".'),
        ("--minutes 0", "train.minutes = 0.0: must be greater than 0"),
        ("--minutes -3", "train.minutes = -3.0: must be greater than 0"),
        ("--train.minutes 0", "train.minutes = 0: must be greater than 0"),
    ],
)
def test_settings_that_cannot_be(tinyslm, tmp_path: Path, texts: Path, settings: str, expected: str) -> None:
    assert expected in tinyslm("train", texts, "--out", "run", *settings.split()).mistake()
    assert not entries(tmp_path)


@pytest.mark.parametrize("minutes", [0, -1])
def test_a_quickstart_without_time(tinyslm, tmp_path: Path, minutes: int) -> None:
    assert "must be greater than 0" in tinyslm("quickstart", "--minutes", minutes).mistake()
    assert not entries(tmp_path)


def test_an_output_folder_that_holds_something_else(tinyslm, texts: Path, finished: Path) -> None:
    before = entries(finished)
    said = tinyslm("train", texts, "--out", finished, *TINY).mistake()
    assert f"{finished} already holds a run. Continue it with `tinyslm train --resume {finished}`, or give" in said
    shutil.copytree(texts, "mine")
    for command in (["train", *TINY], ["data", "prepare"], ["tokenizer", "train"]):
        assert "mine" in tinyslm(*command, texts, "--out", "mine").mistake()
        assert "finished" in tinyslm(*command, texts, "--out", finished).mistake()
        assert "a.txt" in tinyslm(*command, texts, "--out", _file("a.txt")).mistake()
    assert entries(Path("mine")) == entries(texts)
    assert entries(finished) == before
    assert Path("a.txt").read_text() == "mine"


def _file(name: str) -> Path:
    Path(name).write_text("mine")
    return Path(name)


@pytest.mark.parametrize("damage", ["truncated", "tampered", "truncated, of another origin"])
def test_damaged_weights(tinyslm, texts: Path, finished: Path, damage: str) -> None:
    shutil.copytree(finished / "model", "model")
    weights = Path("model/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content if damage == "tampered" else content[:1000])
    if damage == "truncated, of another origin":
        Path("model/tinyslm.json").unlink()
    for command in (["generate", "model"], ["evaluate", "model", texts]):
        said = tinyslm(*command).mistake()
        assert "model/model.safetensors is damaged" in said
        assert "Restore the file" in said


def test_a_damaged_shard_is_named(tinyslm, tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished / "data", "shards")
    shard = Path("shards/train-00000.bin")
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    before = entries(tmp_path)
    for command in (["train", "shards", "--out", "run", *TINY], ["evaluate", finished, "shards"], ["show", "shards"]):
        assert "shards/train-00000.bin is damaged: its checksum" in tinyslm(*command).mistake()
    shard.write_bytes(content[:-2])
    assert "shards/train-00000.bin is damaged: it has" in tinyslm("show", "shards").mistake()
    assert entries(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--prompt", "the cat sees " * 40], "this model's context is 32. Shorten the prompt to at most 31 tokens."),
        (["-n", "0"], "0 samples cannot be generated."),
        (["--samples", "-2"], "-2 samples cannot be generated."),
        (["--max-tokens", "0"], "--max-tokens 0: must be greater than 0"),
        (["--temperature", "-1"], "--temperature -1: must be greater than or equal to 0"),
        (["--dtype", "fp17"], 'Unknown number format "fp17". Did you mean "fp16"?'),
        (["--dtype", "fp16"], "fp16 is unusably slow on a CPU."),
    ],
)
def test_what_cannot_be_generated(tinyslm, finished: Path, arguments: list[str], expected: str) -> None:
    ended = tinyslm("generate", finished, *arguments)
    assert expected in ended.mistake()
    assert ended.out == ""


def test_what_cannot_be_scored(tinyslm, texts: Path, finished: Path) -> None:
    for stride in (0, -1, 33):
        said = tinyslm("evaluate", finished, texts, "--stride", stride).mistake()
        assert f"A stride of {stride} does not suit a context of 32. Give a stride from 1 to 32." in said
    assert "No text to score was given." in tinyslm("evaluate", finished).mistake()
    assert "--out and --training are for tasks" in tinyslm("evaluate", finished, texts, "--out", "x.json").mistake()
    assert "--stride is for text" in tinyslm("evaluate", finished, "--tasks", "grammar", "--stride", "3").mistake()
    assert "Both" in tinyslm("evaluate", finished, texts, "--tasks", "grammar").mistake()
    assert "Unknown number format" in tinyslm("evaluate", finished, texts, "--dtype", "int3").mistake()


def test_folders_that_are_something_else(tinyslm, texts: Path, finished: Path) -> None:
    for command in (["generate", texts], ["evaluate", texts, texts]):
        assert f"{texts} is not a model folder: it has no config.json." in tinyslm(*command).mistake()
    assert "There is no run in" in tinyslm("train", "--resume", texts).mistake()
    given = ["train", finished / "data", "--out", "run", "--tokenizer", finished / "model"]
    assert "holds shards, which bring their own tokenizer" in tinyslm(*given).mistake()


@pytest.mark.parametrize(
    ("source", "library", "extra"),
    [
        ("a.parquet", "pyarrow", "documents"),
        ("s3://bucket/stories", "pyarrow", "documents"),
        ("hf://stories", "datasets", "hub"),
    ],
)
def test_a_missing_extra_is_named(
    tinyslm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, library: str, extra: str
) -> None:
    Path("a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, library, None)  # importing it fails
    said = tinyslm("train", source, "--out", "run", *TINY).mistake()
    assert f'needs the optional dependency group "{extra}", which is not installed.' in said
    assert f"pip install 'tinyslm[{extra}]'" in said
    assert entries(tmp_path) == {"a.parquet"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="limits of file sizes are of POSIX systems")
def test_no_space_left(program, texts: Path) -> None:
    import resource

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))

    for command in (["train", *TINY], ["data", "prepare"]):
        said = program(*command, texts, "--out", "out", preexec_fn=small_files).mistake()
        assert "Could not write out" in said
        assert "Free some space" in said
        assert not entries(Path())


def test_files_are_excluded_by_patterns(tinyslm) -> None:
    folder = Path("texts")
    folder.mkdir()
    (folder / "a.txt").write_text(sentences(100))
    (folder / "b.log").write_text(sentences(100, seed=1))
    byte = ("--tokenizer.kind", "byte")
    for number, options in enumerate(([], ["--exclude", "*.log"], ["--exclude", "*.log", "--exclude=*.md"])):
        ended = tinyslm("data", "prepare", folder, "--out", f"shards{number}", *byte, *options)
        assert ended.code == 0
        assert (Path(f"shards{number}") / "manifest.json").read_text().count('"files": 2,') == (not options)
        assert ("1 pattern of --exclude matches nothing: *.md." in ended.err) == ("--exclude=*.md" in options)
    for command in (["plan"], ["train", "--out", "run"], ["tokenizer", "train", "--out", "made"]):
        ended = tinyslm(*command, folder, "--exclude", "*.txt", "--exclude", "*.log")
        assert ended.code == 2
        assert "(skipped: 2 excluded files and folders)" in ended.err
