"""`--json`: one JSON value on standard output and nothing else, from every verb that says something."""

import json
from pathlib import Path

import pytest
from the_command import TINY

from sentences import sentences
from tinyslm.cli import app


@pytest.fixture
def told(tinyslm):
    """The value that a command prints: `told("show", folder)`."""

    def run(*arguments: object) -> object:
        ended = tinyslm(*arguments, "--json")
        assert ended.code == 0, ended.err
        assert ended.out.count("\n") == 1 or arguments[0] == "doctor"
        return json.loads(ended.out)

    return run


def test_every_verb_that_ends_by_itself_has_it(tinyslm) -> None:
    talking = {"chat", "serve", "mcp", "watch"}  # these talk with a person or a program, or print JSON anyway
    for verb in {*app} - talking - {"--help", "-h", "--version"}:
        parts = sorted({*app[verb]} - {"--help", "-h", "--version"})
        for command in [[verb, part] for part in parts] or [[verb]]:
            assert "--json" in tinyslm(*command, "--help").out, command


def test_what_is_shown(told, finished: Path) -> None:
    model = told("show", finished / "model")
    assert model["kind"] == "model"
    assert sum(model["parts"].values()) == model["parameters"]
    run = told("show", finished)
    assert (run["kind"], run["step"], run["steps"]) == ("run", 5, 5)
    assert run["result"]["bits_per_byte"] == model["training"]["bits_per_byte"]


def test_preparing(told) -> None:
    Path("texts").mkdir()
    for number in range(30):
        Path(f"texts/{number}.txt").write_text(sentences(15, number))
    shards = told("data", "prepare", "texts", "--out", "shards")
    assert shards["splits"]["train"]["documents"] > 20
    assert told("show", "shards") == {"kind": "shards", **shards}
    assert told("tokenizer", "train", "texts", "--out", "tokenizer", "--vocab-size", "320")["vocab_size"] == 320


def test_training(told, texts: Path) -> None:
    made = told("train", texts, "--out", "run", *TINY)
    assert made["result"]["bits_per_byte"] > 0
    assert Path(made["model"], "config.json").is_file()
    assert told("train", "--resume", "run") == made


def test_settings(told) -> None:
    assert told("config")["train"]["batch"] > 0


def test_models(told, finished: Path, texts: Path) -> None:
    pulled = told("pull", finished / "model", "--out", "copy")
    assert (pulled["model"], pulled["source"]) == ("copy", str(finished / "model"))
    (exported,) = told("export", "copy", "--to", "hf:f32", "--out", "exports", "--no-verify")
    assert (exported["scheme"], exported["verdict"]) == ("f32", "not checked")
    compared = told("compare", "copy", exported["path"], "--text", texts, "--tokens", "64")
    assert compared["models"][0]["name"] == "copy"
    told("export", "copy", "--to", "gguf:f32", "--out", "exports", "--no-verify")
    imported = told("import", "exports/copy-F32.gguf", "--out", "again")
    assert imported["parameters"] == pulled["parameters"]
