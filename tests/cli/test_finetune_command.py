"""`tinyslm finetune`: what it prints, and what it refuses."""

import json
from pathlib import Path

import pytest
from the_command import Ended

FAST = ["--train.steps", "2", "--train.device", "cpu"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"ask": f"{n}?", "say": f"{n}!"}) + "\n" for n in range(8)))
    return path


@pytest.fixture
def base(tinyslm, tmp_path: Path) -> Path:
    """A model that reads enough for a conversation of bytes."""
    text = tmp_path / "text.txt"
    text.write_text("a few words of text, again and again. " * 100)
    shape = ["--model.dim", "32", "--model.depth", "1", "--model.heads", "2", "--model.context", "128"]
    done = tinyslm("train", text, "--out", "base", *shape, "--tokenizer.kind", "byte", "--train.steps", "1")
    assert done.code == 0, done
    return Path("base")


def test_a_model_is_taught(tinyslm, base: Path, rows: Path) -> None:
    done: Ended = tinyslm("finetune", base, rows, "--out", "run", "--map", "prompt=ask,answer=say", *FAST)
    assert done.code == 0, done
    assert "Before:       loss " in done.out
    assert "After:        loss " in done.out
    assert "Question:     " in done.out
    assert "Verdict:      " in done.out
    assert "Try it:       " in done.out
    assert Path("run/adapter/adapter_model.safetensors").is_file()
    assert tinyslm("generate", "run", "--prompt", "x", "--max-tokens", "2").code == 0
    assert "Result: loss " in tinyslm("show", "run").out
    told = tinyslm("finetune", "run", rows, "--out", "again", "--map=prompt=ask,answer=say", "--full", "--json", *FAST)
    assert json.loads(told.out)["result"]["conversations"] >= 1
    assert not Path("again/adapter").exists()


def test_a_resumed_run_ends_like_an_uninterrupted_one(tinyslm, base: Path, rows: Path) -> None:
    done = tinyslm("finetune", base, rows, "--out", "run", "--map", "prompt=ask,answer=say", *FAST)
    Path("run/result.json").unlink()  # as if it had been killed just before
    resumed = tinyslm("train", "--resume", "run")
    assert resumed.code == 0, resumed
    for label in ("Before: ", "After: ", "Verdict: ", "Try it: "):
        said = [line for line in done.out.splitlines() if line.startswith(label)]
        assert said == [line for line in resumed.out.splitlines() if line.startswith(label)]
        assert said


def test_a_run_is_planned_without_running(tinyslm, base: Path, rows: Path) -> None:
    shared = (base, rows, "--map=prompt=ask,answer=say", "--plan-only", *FAST)
    done = tinyslm("finetune", *shared)
    assert done.code == 0, done
    for words in ("adapters of rank 16", "2 updates", "before the first update", "are free"):
        assert words in done.out
    told = json.loads(tinyslm("finetune", *shared, "--json").out)["plan"]
    assert told["steps"] == 2
    assert not Path("run").exists()


def test_a_run_without_a_name_is_called_like_its_examples(tinyslm, base: Path, rows: Path) -> None:
    for name in ("rows", "rows-2"):
        assert f"Run folder: runs/{name}\n" in tinyslm("finetune", base, rows, "--map=prompt=ask,answer=say", *FAST).out


def test_a_gain_can_be_required(tinyslm, base: Path, rows: Path) -> None:
    shared = (base, rows, "--map", "prompt=ask,answer=say", "--require-gain", "--train.device", "cpu")
    none = tinyslm("finetune", *shared, "--out", "none", "--train.steps", "1", "--optimizer.lr", "1e-12")
    assert none.code == 3, none
    assert "no better on the task" in none.out
    assert Path("none/model/model.safetensors").is_file()
    learned = ("--full", "--replay", "0.3", "--optimizer.lr", "0.003", "--valid", rows)
    gain = tinyslm("finetune", *shared, "--out", "gain", "--train.steps", "30", *learned)
    assert gain.code == 0, gain
    assert "better on the task" in gain.out
    assert "with 30 % replay" in " ".join(gain.out.split())


def test_mistakes_are_named(tinyslm, base: Path, rows: Path) -> None:
    assert "No examples were given." in tinyslm("finetune", base, "--out", "run").mistake()
    assert "rows.jsonl, row 1 cannot be used: its format is unknown; its fields are: ask, say" in (
        tinyslm("finetune", base, rows, "--out", "run").mistake()
    )
    for given, words in (
        ("prompt=ask", "The fields of prompt and answer were not all named"),
        ("question=ask", "--map question=ask is not valid"),
        ("prompt=aks,answer=say", 'Did you mean "ask"?'),
    ):
        assert words in tinyslm("finetune", base, rows, "--out", "run", "--map", given).mistake()
    assert (
        "--full trains all weights"
        in tinyslm("finetune", base, rows, "--out", "run", "--full", "--rank", "4").mistake()
    )
    assert "does not exist" in tinyslm("finetune", "nowhere", rows, "--out", "run").mistake()
    assert not Path("run/config.json").exists()


def test_the_data_is_checked(tinyslm, base: Path, rows: Path) -> None:
    given = ("--map", "prompt=ask,answer=say")
    done = tinyslm("data", "lint", rows, "--model", base, *given, "--html", "lint.html", "--show", "1")
    assert done.code == 0, done
    assert "⟦0!<|im_end|>⟧" in done.out
    assert done.out.splitlines()[-2:] == ["8 rows: nothing was found.", "Page: lint.html"]
    assert "lint.html exists already" in tinyslm("data", "lint", rows, "--html", "lint.html").mistake()
    assert "No examples were given." in tinyslm("data", "lint").mistake()
    with rows.open("a") as file:
        file.write('{"ask": "9?"}\n{"ask": "Who?", "say": "I am ChatGPT."}\n')
    told = tinyslm("data", "lint", rows, *given, "--json")
    findings = {one["check"]: one for one in json.loads(told.out)["findings"]}
    assert (told.code, list(findings)) == (1, ["unreadable", "identity"])
    assert findings["unreadable"]["places"] == [["rows.jsonl, row 9", 'has no field "say"']]
    stopped = tinyslm("finetune", base, rows, "--out", "run", *given, *FAST)
    assert "Rows that cannot be used: 1 (rows.jsonl, row 9: " in stopped.err
    assert "warning: Rows that speak as another assistant: 1 (rows.jsonl, row 10: " in stopped.err
    assert "--lint warn" in stopped.err
    assert stopped.code == 2
    assert not Path("run/config.json").exists()
    assert tinyslm("finetune", base, rows, "--out", "run", *given, *FAST, "--lint", "warn").code == 0


def test_a_model_learns_from_rewards(tinyslm, base: Path, tmp_path: Path) -> None:
    (tmp_path / "grader.py").write_text("def grade(example, answer):\n    return len(set(answer)) % 5 / 5\n")
    (tmp_path / "asks.jsonl").write_text("".join(json.dumps({"ask": f"{n}?"}) + "\n" for n in range(40)))
    given = ["--method", "grpo", "--grader", "grader.py:grade", "--prompts", "asks.jsonl", "--map", "prompt=ask"]
    done = tinyslm("finetune", base, *given, "--out", "run", "--grpo.max-tokens", "8", *FAST)
    assert done.code == 0, done
    assert "Before:       reward 0." in done.out
    assert "on 8 of them" in done.out
    assert "wanted" not in done.out
    assert "Reward" in (tmp_path / "run" / "report.html").read_text()
    shown = tinyslm("show", "run")
    assert shown.code == 0, shown
    assert "Result: reward 0." in shown.out
    assert "on 8 held-out prompts." in shown.out
    assert "--prompts is for the methods grpo and rejection" in (
        tinyslm("finetune", base, "--prompts", "asks.jsonl", "--out", "x").mistake()
    )
    Path("empty.jsonl").write_text("")
    assert "There are no rows in empty.jsonl." in tinyslm("data", "lint", "empty.jsonl").mistake()
    assert "needs a grader" in tinyslm("finetune", base, "--method", "grpo", "asks.jsonl", "--out", "x").mistake()
