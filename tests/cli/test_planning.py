"""`tinyslm plan`, and `tinyslm train` where the model's shape is left open."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from the_command import TINY, entries

from sentences import sentences
from tinyslm.data import text
from tinyslm.data.corpus import read_corpus
from tinyslm.planning.law import read_law
from tinyslm.training.config import RunConfig
from tinyslm.training.memory import PLANNING, peak_bytes

pytestmark = pytest.mark.usefixtures("machine_looked_at_briefly")


def test_a_row_for_each_budget(tinyslm, tmp_path: Path, texts: Path) -> None:
    legacy = texts.parent / "legacy.txt"
    legacy.write_bytes(f"Größe: {sentences(4)}".encode("cp1252"))
    ended = tinyslm("plan", texts, legacy, "--minutes", "1,5", "--hours", "2", "--tokens", "40k")
    assert ended.code == 0, ended.err
    assert " kB of text in 31 documents" in ended.out
    assert f"warning: 1 file is not UTF-8; read as windows-1252: {legacy}." in ended.err
    rows = ended.out.splitlines()[-4:]
    assert all(" to " in row for row in rows), ended.out
    assert not entries(tmp_path)


def test_plans_as_json_and_as_a_picture(tinyslm, texts: Path) -> None:
    ended = tinyslm(
        "plan", texts, "--minutes", "2,1", "--plot", "plan.svg", "--json", "--model.context", "128", "--world", "2"
    )
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert all(one["processes"] == 2 and one["together"] > one["summing"] > 0 for one in told["world"])
    long, short = (plan["expectation"] for plan in told["plans"])
    assert long["bits_per_byte"] <= short["bits_per_byte"]
    assert long["low"] < long["bits_per_byte"] < long["high"]
    assert {plan["settings"]["model"]["context"] for plan in told["plans"]} == {128}
    assert told["data"]["documents"] == 30
    assert told["machine"]["device"] == "cpu"
    drawn = Path("plan.svg").read_text()
    assert drawn.startswith("<svg")
    assert "Expected bits per byte" in drawn
    assert "var(--" not in drawn
    assert tinyslm("plan", texts, "--minutes", "1,2", "--plot", "plan.png").code == 0
    assert Path("plan.png").read_bytes()[1:4] == b"PNG"


def test_more_processes_than_sequences_are_refused(tinyslm, texts: Path) -> None:
    ended = tinyslm("plan", texts, "--tokens", "40k", "--train.batch", "8", "--world", "9")
    assert "A batch of 8 sequences has work for 1 to 8 processes, not for 9." in ended.mistake()


def test_limits_are_kept(tinyslm, texts: Path) -> None:
    ended = tinyslm("plan", texts, "--minutes", "5", "--params", "500k", "--memory", "1", "--json")
    assert ended.code == 0, ended.err
    (plan,) = json.loads(ended.out)["plans"]
    assert 400_000 < plan["expectation"]["parameters"] < 600_000
    assert plan["expectation"]["memory_bytes"] < 1e9
    settings = RunConfig.model_validate(plan["settings"])
    assert max(PLANNING, peak_bytes(settings)) == plan["expectation"]["memory_bytes"]


def test_a_plan_can_be_written_edited_and_trained_by(tinyslm, texts: Path) -> None:
    assert tinyslm("plan", texts, "--minutes", "1", "--out", "plan.toml", "--train.device", "cpu").code == 0
    content = Path("plan.toml").read_text()
    dim = tomllib.loads(content)["settings"]["model"]["dim"]
    edited = content.replace(f"dim = {dim} ", "dim = 64 ").replace("context = ", "context = 16 # ")
    before, train = edited.split("[settings.train]")  # where a little text ends a plan by steps, a slow machine by time
    train = re.sub(r"^(minutes|steps) = \S+", "steps = 3", train, count=1, flags=re.MULTILINE)
    Path("plan.toml").write_text(f"{before}[settings.train]{train}")
    ended = tinyslm("train", texts, "--out", "run", "--plan", "plan.toml", "--train.batch", "2")
    assert ended.code == 0, ended.err
    assert "Planned: " in ended.out
    assert "Expected: " in ended.out
    written = json.loads(Path("run/config.json").read_text())
    assert (written["model"]["dim"], written["model"]["context"]) == (64, 16)
    assert (written["train"]["steps"], written["train"]["batch"]) == (3, 2)
    assert tomllib.loads(Path("run/plan.toml").read_text())["settings"]["train"]["steps"] == 3
    result = json.loads(Path("run/result.json").read_text())
    assert result["planned"]["low"] < result["planned"]["bits_per_byte"] < result["planned"]["high"]
    assert "expected bits per byte" in Path("run/report.html").read_text()


def test_training_plans_where_the_shape_is_left_open(tinyslm, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(text, "read_corpus", lambda *given: read.append(given) or read_corpus(*given))
    limits = ("--tokens", "50000", "--train.device", "cpu", "--model.context", "256")
    ended = tinyslm("train", texts, "--out", "run", *limits, "--params", "200k")
    assert ended.code == 0, ended.err
    written = json.loads(Path("run/config.json").read_text())
    plan = tomllib.loads(Path("run/plan.toml").read_text())
    assert written["model"]["dim"] == plan["settings"]["model"]["dim"]
    assert written["model"]["context"] == 256
    tokens = written["train"]["steps"] * written["train"]["batch"] * 256 or written["train"]["tokens"]
    assert tokens == pytest.approx(50_000, rel=0.05)
    assert written["tokenizer"]["kind"] == plan["settings"]["tokenizer"]["kind"]
    assert len(read) == 1  # for the plan and for the shards
    assert plan["data"]["documents"] == 30


def test_training_plans_for_shards(tinyslm, texts: Path) -> None:
    assert tinyslm("data", "prepare", texts, "--out", "shards").code == 0
    size = json.loads(Path("shards/manifest.json").read_text())["tokenizer"]["vocab_size"]
    ended = tinyslm("plan", "shards", "--minutes", "1", "--json")
    assert ended.code == 0, ended.err
    (plan,) = json.loads(ended.out)["plans"]
    assert plan["settings"]["model"]["vocab_size"] == size


def test_nothing_is_planned_where_the_shape_is_given(tinyslm, texts: Path) -> None:
    assert tinyslm("train", texts, "--out", "run", *TINY).code == 0
    assert not Path("run/plan.toml").exists()
    said = tinyslm("train", texts, "--out", "other", *TINY, "--params", "3M").mistake()
    assert "--params and --memory limit a plan" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("plan", "No text to plan for was given."),
        ("plan texts --minutes soon", "--minutes soon: must be numbers."),
        ("plan texts --minutes 0", "minutes = 0.0: must be greater than 0"),
        ("plan texts --tokens many", "--tokens many: must be a number."),
        ("plan texts --params 0", "--params 0: must be a number."),
        ("plan texts --memory -1", "memory_bytes"),
        ("plan texts --out plan.toml", "--out takes one plan"),
        ("plan texts --plot plan.pdf --minutes 1", "plots are drawn as SVG or PNG"),
        ("plan texts --minutes 1 --model.dimm 3", 'there is no setting "model.dimm"'),
        ("plan -", "Standard input can be read only once"),
        ("plan nowhere --minutes 1", "nowhere"),
        ("train texts --out run --plan none.toml", "Check the path given with --plan."),
        ("train texts --out run --plan texts", "Check the path given with --plan."),
        ("train texts --out run --config none.toml", "Check the path given with --config."),
    ],
)
def test_mistakes(tinyslm, tmp_path: Path, arguments: str, expected: str) -> None:
    Path("texts").mkdir()
    assert expected in tinyslm(*arguments.split()).mistake()
    assert entries(tmp_path) == {"texts"}


def test_the_law_in_the_package_is_one_that_can_be_used() -> None:
    law = read_law()
    assert law.runs > 20
    assert 0 < law.spread < 0.1
