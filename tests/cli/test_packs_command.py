"""`tinyslm packs`: a pack is listed, shown, written, taught and scored."""

import json
from pathlib import Path

import pytest
import torch

from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.tokenizer.training import train_tokenizer


@pytest.fixture
def base() -> Path:
    """A model of bytes that has room for a conversation with tools."""
    tokenizer = train_tokenizer([], kind="byte")
    shape = {"dim": 16, "heads": 2, "depth": 1, "context": 3072, "vocab_size": tokenizer.vocab_size}
    torch.manual_seed(1)
    save_model(Decoder(ModelConfig(**shape)), Path("base"), tokenizer)
    return Path("base")


def test_packs_are_listed_and_shown(tinyslm) -> None:
    assert "arithmetic, boolean" in tinyslm("packs", "list").out
    assert {"logic", "security"} <= {pack["name"] for pack in json.loads(tinyslm("packs", "list", "--json").out)}
    shown = tinyslm("packs", "show", "logic").out
    for words in ("arithmetic: word problems", "[calls {'name': 'calculator'", "(task logic_boolean)"):
        assert words in shown
    examples = json.loads(tinyslm("packs", "show", "logic", "--rows", "2", "--json").out)["examples"]
    assert [len(rows) for rows in examples.values()] == [2, 2, 2, 2]
    assert "(task security_triage)" in tinyslm("packs", "show", "security").out
    assert "logic_arithmetic" in tinyslm("evaluate", "x", "--tasks", "list").out
    assert 'Unknown pack "lojic".' in tinyslm("packs", "show", "lojic").mistake()


def test_rows_are_written(tinyslm) -> None:
    Path("mine.jsonl").write_text('{"input": "red lamp 5.99", "output": "title: red lamp\\nprice: 5.99"}\n{"a": 1}\n')
    done = tinyslm("packs", "data", "logic", "--out", "rows", "--rows", "8", "--import", "mine.jsonl")
    assert done.code == 0, done
    assert "Imported:      1 row; 1 fit no skill" in done.out
    rows = [json.loads(line) for line in Path("rows/train.jsonl").read_text().splitlines()]
    assert len(rows) >= 8
    assert "rows exists already" in tinyslm("packs", "data", "logic", "--out", "rows", "--rows", "8").mistake()
    told = json.loads(tinyslm("packs", "data", "logic", "--out", "again", "--rows", "8", "--json").out)
    assert told["train"] == 8
    assert told["skills"] == {"arithmetic": 2, "boolean": 2, "deduction": 2, "extraction": 2}
    lint = tinyslm("data", "lint", "rows/train.jsonl", "--against", "rows/test.jsonl")
    assert lint.code == 0, lint


def test_a_model_is_taught_and_scored(tinyslm, base: Path) -> None:
    fast = ["--train.steps", "1", "--train.device", "cpu", "--train.batch", "1", "--verdict.questions", "1"]
    done = tinyslm("packs", "train", "logic", "--model", base, "--out", "run", "--rows", "40", *fast)
    assert done.code == 0, done
    assert "Score it:     " in done.out
    scored = tinyslm("packs", "evaluate", "logic", "run", "--limit", "1", "--json")
    scores = json.loads(scored.out)
    assert [score["task"] for score in scores] == [
        f"logic_{name}" for name in ("arithmetic", "boolean", "deduction", "extraction")
    ]
    assert scores[1]["chance"] == 0.5
    suite = tinyslm("evaluate", "run", "--tasks", "logic", "--limit", "1", "--json")
    assert [score["value"] for score in json.loads(suite.out)] == [score["value"] for score in scores]


def test_a_picture_is_no_page_of_a_product(tinyslm, base: Path) -> None:
    Path("a.png").write_bytes(b"\x89PNG\r\n\x1a\n price 1.99 EUR")
    assert "a.png shows no text." in tinyslm("packs", "demo", "prices", "a.png", "--model", base).mistake()


def test_the_demo_of_security_reads_a_log(tinyslm, base: Path) -> None:
    line = "Nov 12 03:02:11 gw sshd[4411]: Failed password for root from 203.0.113.77 port 51022 ssh2\n"
    Path("auth.log").write_text(line * 3)
    done = tinyslm("packs", "demo", "security", "auth.log", "--model", base, "--out", "found.jsonl", "--json")
    assert done.code == 0, done
    assert json.loads(done.out)["result"]["lines"] == 3
    assert Path("found.jsonl").is_file()
    assert "Could not read" in tinyslm("packs", "demo", "security", "no.log", "--model", base).mistake()
