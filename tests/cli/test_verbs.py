"""The verbs, used as a new user does."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from the_command import SHAPE, TINY

from sentences import sentences
from tinyslm.data.shards import Shards


def times(folder: Path) -> dict[str, int]:
    """When each file below a folder was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def mixed() -> Path:
    """A folder with a file of each type, all of different text."""
    import pyarrow
    import pyarrow.parquet
    import zstandard

    folder = Path("mixed")
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text(sentences(9, 1))
    (folder / "b.md").write_text("# Title\n\n" + sentences(9, 2))
    (folder / "deep" / "c.py").write_text(f'"""{sentences(9, 3)}"""\n')
    (folder / "d.html").write_text(f"<html><body><p>{sentences(9, 4)}</p></body></html>")
    (folder / "e.jsonl").write_text("".join(json.dumps({"text": sentences(3, 10 + i)}) + "\n" for i in range(3)))
    (folder / "f.csv").write_text("id,text\n" + "".join(f'{i},"{sentences(3, 20 + i)}"\n' for i in range(3)))
    rows = pyarrow.table({"content": [sentences(3, 30 + i) for i in range(3)]})
    pyarrow.parquet.write_table(rows, folder / "g.parquet")
    (folder / "h.txt.gz").write_bytes(gzip.compress(sentences(9, 5).encode()))
    (folder / "i.jsonl.zst").write_bytes(zstandard.compress(json.dumps({"text": sentences(9, 6)}).encode()))
    return folder


def test_train_on_a_folder_of_mixed_files(tinyslm, mixed: Path) -> None:
    ended = tinyslm("train", mixed, "--out", "run", *TINY)
    assert ended.code == 0, ended.err
    manifest = json.loads(Path("run/data/manifest.json").read_text())
    assert manifest["sources"][0]["files"] == 9
    assert manifest["sources"][0]["kept_documents"] == 15
    for name in ("model/model.safetensors", "model/tokenizer.json", "report.html", "report.png", "result.json"):
        assert Path("run", name).stat().st_size
    for said in (
        "documents",
        " k parameters for 5 steps",
        "Validation: ",
        "bits per byte (",
        "Model folder: run/model",
    ):
        assert said in ended.out
    assert "tinyslm generate run/model --prompt" in ended.out
    assert not any(character < " " for character in ended.out if character != "\n")  # no bar, no colours in a pipe


def test_train_on_standard_input_and_on_a_glob(tinyslm, texts: Path) -> None:
    ended = tinyslm("train", "-", "--out", "piped", *TINY, stdin=sentences(100))
    assert ended.code == 0, ended.err
    assert tinyslm("train", "--out", "glob", *TINY, f"{texts}/0*.txt").code == 0
    assert json.loads(Path("glob/data/manifest.json").read_text())["sources"][0]["files"] == 10


def test_each_step_alone_is_not_made_again(tinyslm, texts: Path) -> None:
    steps = [
        ["tokenizer", "train", texts, "--out", "tokenizer", "--kind", "char"],
        ["data", "prepare", texts, "--out", "shards", "--tokenizer", "tokenizer"],
    ]
    for step in steps:
        assert tinyslm(*step).code == 0
        before = times(Path(step[4]))
        ended = tinyslm(*step)
        assert (ended.code, times(Path(step[4]))) == (0, before)
        assert f"{step[4]} is up to date: its inputs have not changed." in ended.err
    assert tinyslm("train", "shards", "--out", "run", *TINY).code == 0
    assert tinyslm("train", texts, "--out", "other", *TINY, "--tokenizer", "tokenizer").code == 0
    made = [Path(name, "tokenizer.json").read_bytes() for name in ("tokenizer", "run/model", "other/model")]
    assert made[0] == made[1] == made[2]
    assert not Path("run/data").exists()  # the shards are where they were


def test_a_changed_text_is_prepared_again(tinyslm, texts: Path) -> None:
    shutil.copytree(texts, "mine")
    command = ["data", "prepare", "mine", "--out", "shards", "--tokenizer.kind", "byte"]
    assert tinyslm(*command).code == 0
    before = Shards.open(Path("shards")).manifest
    Path("mine/new.txt").write_text(sentences(30, 99))
    assert "shards of other inputs; they are replaced" in tinyslm(*command).err
    assert Shards.open(Path("shards")).manifest["inputs"] != before["inputs"]


def test_generate_streams_what_json_holds(tinyslm, finished: Path) -> None:
    common = ["generate", finished, "--prompt", "the cat", "--max-tokens", "40", "--seed", "3"]
    streamed = tinyslm(*common)
    assert (streamed.code, streamed.err) == (0, "")
    told = json.loads(tinyslm(*common, "--json").out)
    assert streamed.out == "the cat" + told["text"] + "\n"
    assert told["prompt"] == "the cat"
    assert told["finish"] in ("stop", "length")
    assert tinyslm("generate", finished / "model", *common[2:]).out == streamed.out  # a model folder, or its run


def test_generate_several_samples(tinyslm, finished: Path) -> None:
    common = ["generate", finished, "--max-tokens", "8", "--seed", "5", "-n", "3"]
    lines = [json.loads(line) for line in tinyslm(*common, "--json").out.splitlines()]
    assert len({line["text"] for line in lines}) == 3
    shown = tinyslm(*common).out
    assert [f"--- sample {number} of 3 ---" in shown for number in (1, 2, 3)] == [True] * 3


def test_generate_until_a_stop_string(tinyslm, finished: Path) -> None:
    common = ["generate", finished, "--prompt", "the", "--max-tokens", "60", "--seed", "3", "--json"]
    whole = json.loads(tinyslm(*common).out)["text"]
    stop = whole[len(whole) // 2]
    stopped = json.loads(tinyslm(*common, "--stop", "never said", "--stop", stop).out)
    assert (stopped["text"], stopped["finish"]) == (whole[: whole.index(stop)], "stop")


def test_the_likeliest_text_is_always_the_same(tinyslm, finished: Path) -> None:
    common = ["generate", finished, "--prompt", "a", "--max-tokens", "20", "--temperature", "0", "--json"]
    assert tinyslm(*common).out == tinyslm(*common, "--seed", "8").out


@pytest.mark.parametrize("prompt", ["the", "- one", "--a.b", "-", "Ça\n  va? 🙂"])
def test_any_text_can_be_a_prompt(tinyslm, finished: Path, prompt: str) -> None:
    common = ["generate", finished, "--max-tokens", "3", "--seed", "1", "--json"]
    if prompt != "-":
        assert json.loads(tinyslm(*common, "--prompt", prompt).out)["prompt"] == prompt
    assert json.loads(tinyslm(*common, "-p", "-", stdin=prompt).out)["prompt"] == prompt


def test_evaluate_text_and_shards(tinyslm, texts: Path, finished: Path) -> None:
    ended = tinyslm("evaluate", finished, texts)
    assert (ended.code, ended.err) == (0, "")
    last = ended.out.splitlines()[-1]
    score = json.loads(tinyslm("evaluate", finished, texts, "--json").out)  # nothing else on standard output
    assert score["documents"] == 30
    assert score["low"] < score["bits_per_byte"] < score["high"]
    assert last.startswith(f"{score['bits_per_byte']:.4f} bits per byte (95 % interval {score['low']:.4f} to ")
    assert f"perplexity {score['perplexity']:.2f}" in last
    slow = json.loads(tinyslm("evaluate", finished, texts, "--json", "--stride", "8").out)
    assert slow["tokens"] == score["tokens"]
    own = json.loads(tinyslm("evaluate", finished, finished / "data", "--json").out)
    recorded = json.loads((finished / "result.json").read_text())
    assert {key: recorded[key] for key in own} == own


def test_show_a_model_folder(tinyslm, finished: Path) -> None:
    ended = tinyslm("show", finished / "model")
    assert (ended.code, ended.err) == (0, "")
    parameters = json.loads((finished / "result.json").read_text())["parameters"]
    assert f"width {SHAPE['model.dim']}, depth 1, 2 heads (2 for keys and values) of 16, context 32" in ended.out
    assert f"{parameters:,}" in ended.out
    for part in ("token embedding", "attention", "feed-forward", "100.0%", "model.safetensors: ", "Trained on 640 tok"):
        assert part in ended.out


def test_show_says_nothing_of_weights_that_cannot_be_read(tinyslm, finished: Path) -> None:
    folder = Path("copy")
    shutil.copytree(finished / "model", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    ended = tinyslm("show", folder)
    assert "model.safetensors is damaged" in ended.mistake()
    assert ended.out == ""
    weights.rename(folder / "pytorch_model.bin")
    ended = tinyslm("show", folder)
    assert "pytorch_model.bin, a pickle" in ended.mistake()
    assert ended.out == ""


def test_show_shards(tinyslm, finished: Path) -> None:
    ended = tinyslm("show", finished / "data")
    assert (ended.code, ended.err) == (0, "")
    assert "every file is intact" in ended.out
    for name, split in Shards.open(finished / "data").manifest["splits"].items():
        row = next(line for line in ended.out.splitlines() if line.startswith(name))
        assert f"{split['tokens']:,}" in row


def test_show_a_finished_run(tinyslm, finished: Path) -> None:
    ended = tinyslm("show", finished)
    assert (ended.code, ended.err) == (0, "")
    for part in ("step 5 of 5, finished.", "Training loss", "└──", "validation loss", "Result: ", "report.html"):
        assert part in ended.out


def test_a_finished_run_is_not_trained_again(tinyslm, finished: Path) -> None:
    before = times(finished)
    ended = tinyslm("train", "--resume", finished)
    assert (ended.code, ended.err) == (0, "")
    assert "has finished" in ended.out
    assert times(finished) == before


def test_tasks_are_scored(tinyslm, finished: Path) -> None:
    asked = ["evaluate", finished, "--tasks", "grammar,arithmetic", "--limit", "3"]
    done = tinyslm(*asked, "--out", "scores.json")
    assert done.code == 0
    assert {"grammar", "arithmetic", "accuracy", "score"} <= set(done.out.split())
    written = json.loads(Path("scores.json").read_text())["scores"]
    assert [len(score["outcomes"]) for score in written] == [3, 3]
    printed = json.loads(tinyslm(*asked, "--json").out)
    assert [score["value"] for score in printed] == [score["value"] for score in written]
