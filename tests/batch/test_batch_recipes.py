"""The recipes for batches run, with models that train in seconds, on tiny data of their kind."""

import json
import os
import random
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.packs.security.triage import ASKED, SCHEMA

RECIPES = Path(__file__).parents[2] / "recipes"
TINY = ["--model.dim=64", "--model.depth=1", "--model.context=128", "--tokenizer.vocab_size=384", "--train.batch=8",
        "--train.device=cpu"]  # fmt: skip
TAUGHT = ["--train.steps=2", "--train.device=cpu", "--verdict.questions=2"]
GOODS = ("lamp", "table", "radio", "kettle", "bicycle", "chair")
KINDS = ("red", "old", "large", "wireless", "steel")


@pytest.fixture
def run(fork_server):
    """Runs a recipe's program as a user does; it must end well."""
    path = os.pathsep.join(map(str, (fork_server.path, Path(sys.executable).parent, os.environ["PATH"])))

    def program(*command: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            list(map(str, command)),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=os.environ | {"PATH": path, "MINUTES": "0.01", "STORY_MINUTES": "0.01"},
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended

    return program


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_logs(run, tmp_path, tokenizer):
    torch.manual_seed(1)
    shape = {"dim": 32, "heads": 2, "depth": 1, "context": 1024, "vocab_size": tokenizer.vocab_size}
    save_model(Decoder(ModelConfig(**shape)), tmp_path / "base", tokenizer)
    run(RECIPES / "logs/train.sh", tmp_path / "base", tmp_path / "run", "--rows=40", *TAUGHT)
    lines = ["gw sshd[7]: Failed password for root from 203.0.113.7 port 5 ssh2", "web1 198.51.100.9 GET /.env 404"]
    ended = run(RECIPES / "logs/triage.sh", tmp_path / "run", stdin="\n".join(lines) + "\n")
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [row["input"]["text"] for row in found] == lines
    assert json.loads((RECIPES / "logs/schema.json").read_text()) == SCHEMA
    assert (RECIPES / "logs/prompt.jinja").read_text().removesuffix("{{ text }}\n") == ASKED
    for row in found:
        assert row["error"] is None
        assert row["value"]["severity"] in SCHEMA["properties"]["severity"]["enum"]


def test_notes(run, tmp_path, tokenizer, monkeypatch, capsys):
    torch.manual_seed(1)
    shape = {"dim": 32, "heads": 4, "depth": 1, "context": 1024, "vocab_size": tokenizer.vocab_size}
    save_model(Decoder(ModelConfig(family="llama", **shape)), tmp_path / "model", tokenizer)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/house.md").write_text("# Boiler\nThe boiler is serviced in May.\n\n# Roof\nNew in 2019.\n")
    (tmp_path / "notes/garden.txt").write_text("The roses are cut in March.\n" * 40)
    program = [sys.executable, RECIPES / "notes/answer.py", tmp_path / "model", tmp_path / "notes"]
    found = json.loads(run(*program, "When is the boiler serviced?").stdout)
    assert isinstance(found["answer"], str)
    assert found["source"].split(":")[0] in ("house.md", "garden.txt")
    monkeypatch.setattr(sys, "argv", [*map(str, program[1:]), "Zzz?"])
    runpy.run_path(sys.argv[0], run_name="__main__")
    assert json.loads(capsys.readouterr().out) == {"answer": "The notes do not say.", "source": ""}
    sys.argv += ["x", "y"]
    with pytest.raises(SystemExit, match=r"^Answer a question from a folder of notes: "):
        runpy.run_path(sys.argv[0], run_name="__main__")


def test_every_recipe_says_how_it_is_used():
    for recipe in ("logs", "notes", "story-chatbot"):
        text = (RECIPES / recipe / "README.md").read_text()
        for program in (RECIPES / recipe).glob("*.[sp][hy]"):
            assert f"recipes/{recipe}/{program.name}" in text


def test_a_chatbot_from_nothing(run, tmp_path: Path) -> None:
    dice = random.Random(0)
    names = [f"{kind} {thing}" for kind in KINDS for thing in GOODS]
    stories = [{"text": f"There was a {dice.choice(names)}. It stood by a {dice.choice(names)}."} for _ in range(200)]
    asked = [{"context": f"There was a {name}.", "question": "What was there?", "answer": name} for name in names]
    files = [write_lines(tmp_path / "stories.jsonl", stories), write_lines(tmp_path / "questions.jsonl", asked)]
    run(
        RECIPES / "story-chatbot" / "train.sh",
        *files,
        tmp_path / "runs",
        *TINY,
        "--model.context=256",
        "--tokenizer.vocab_size=320",
    )
    result = json.loads((tmp_path / "runs" / "chatbot" / "result.json").read_text())
    assert result["verdict"]["gain"]["unit"] == "score"
    grade = runpy.run_path(str(RECIPES / "story-chatbot" / "grader.py"))["grade"]
    assert grade(asked[0], f"A {names[0]}!")["score"] == 1
    assert grade(asked[0], "a zebra") == {"score": 0.0, "parts": {"in_story": 0.0}}
