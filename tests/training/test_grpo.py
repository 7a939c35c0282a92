"""Reinforcement learning: rewards rise, nothing that a grader does ends a run, and alarms say what goes wrong."""

import json
import math
import os
from pathlib import Path

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.data.examples import open_examples
from tinyslm.planning.finetune import finetune
from tinyslm.planning.methods.method import ExampleFiles
from tinyslm.training import rollouts
from tinyslm.training.alarms import Alarms
from tinyslm.training.metrics import read_metrics
from tinyslm.training.pipeline import Watch
from tinyslm.training.rollouts import advantages

GRADERS = '''
import time

def vowels(example, answer):
    """A score with parts; no answer is right or wrong for an untrained model, but some are better."""
    share = sum(one in "aeiou" for one in answer) / max(8, len(answer))
    return {"score": share, "parts": {"asked": float("what" in example["prompt"])}}

def one(example, answer):
    return 1.0

def nan(example, answer):
    return float("nan")

def text(example, answer):
    return "good"

def raises(example, answer):
    raise ValueError("no idea")

def leaves(example, answer):
    import os
    os._exit(3)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of bytes, graders, and prompts without answers."""
    from tinyslm.model.config import ModelConfig
    from tinyslm.model.decoder import new_model
    from tinyslm.model.folder import save_model
    from tinyslm.tokenizer.training import train_tokenizer

    folder = tmp_path_factory.mktemp("rl")
    tokenizer = train_tokenizer(["x"], kind="byte")
    shape = {"dim": 32, "heads": 2, "depth": 1, "context": 64, "vocab_size": tokenizer.vocab_size}
    save_model(new_model(ModelConfig(**shape)), folder / "base", tokenizer)
    (folder / "graders.py").write_text(GRADERS)
    rows = ({"prompt": f"what {number}"} for number in range(12))
    (folder / "asks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def learn(folder: Path, out: Path, grader: str, events: list | None = None, **changes) -> dict:
    grader_file = os.path.relpath(folder / "graders.py")  # a run stores where it is, to be resumed from anywhere
    grpo = {"prompts": 2, "group": 4, "max_tokens": 8, **changes.pop("grpo", {})}
    train = {"grader": f"{grader_file}:{grader}", "device": "cpu", "steps": 3, **changes.pop("train", {})}
    settings = {"grpo": grpo, "train": train, "lora": {"rank": 0}, **changes}
    files = ExampleFiles([folder / "asks.jsonl"], valid=[folder / "asks.jsonl"])
    watch = Watch(event=[].append if events is None else events.append)
    return finetune(folder / "base", files, out, method="grpo", settings=settings, watch=watch)


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "dapo"])
def test_rewards_rise(folder: Path, tmp_path: Path, loss: str) -> None:
    out = tmp_path / "run"
    settings = {"grpo": {"loss": loss, "group": 16}, "train": {"steps": 25}, "optimizer": {"lr": 0.01}}
    result = learn(folder, out, "vowels", **settings)
    rows = [row for row in read_metrics(out / "metrics.jsonl") if row["event"] == "step"]
    first, last = (sum(row["reward"] for row in part) / 3 for part in (rows[:3], rows[-3:]))
    assert last > 1.25 * first
    assert result["reward"] >= result["before"]["reward"]
    assert rows[0]["reward_asked"] == 1, "the grader gets the row"
    settings = json.loads((out / "config.json").read_text())
    assert settings["train"]["grader"] == f"{folder / 'graders.py'}:vowels"
    assert {"entropy", "answer_tokens", "truncated", "equal_groups", "clipped"} <= rows[0].keys()


def test_several_updates_and_a_divergence(folder: Path, tmp_path: Path) -> None:
    learn(folder, tmp_path / "run", "vowels", grpo={"updates": 2, "kl": 0.1}, optimizer={"lr": 0.01})
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["event"] == "step"]
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6), "the first model is the reference"
    assert rows[-1]["kl"] > 1e-4


@pytest.mark.parametrize("grader", ["one", "nan", "text", "raises", "leaves"])
def test_no_grader_ends_a_run(folder: Path, tmp_path: Path, monkeypatch, grader: str) -> None:
    monkeypatch.setattr(rollouts, "PATIENCE", 0.3)
    events: list[dict] = []
    learn(folder, tmp_path / "run", grader, events, train={"steps": 5})
    rows = [event for event in events if event["event"] == "step"]
    warnings = [event["text"] for event in events if event["event"] == "warning"]
    assert len(rows) == 5
    assert all(math.isfinite(row["loss"]) and row["gradient_norm"] == 0 for row in rows)
    assert rows[0]["equal_groups"] == 1
    assert any("the same reward" in text for text in warnings)
    assert any("The grader failed on 100% of the answers" in text for text in warnings) == (grader != "one")


def test_answers_fit_a_grammar(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "word.lark").write_text('start: "aa" | "bb"\n')
    learn(folder, tmp_path / "run", "vowels", grpo={"grammar": str(tmp_path / "word.lark")})
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["event"] == "step"]
    assert {row["reward"] for row in rows} <= {share / 8 / 4 for share in range(9)}
    assert rows[0]["answer_tokens"] == 2


def test_what_cannot_be_done_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match=r"The method grpo does not read dpo\.beta"):
        learn(folder, tmp_path / "run", "one", dpo={"beta": 0.5})
    with pytest.raises(TinyslmError, match="does not exist"):
        learn(folder, tmp_path / "run", "x", train={"grader": "nowhere.py:grade"})
    with pytest.raises(TinyslmError, match="needs a grader"):
        learn(folder, tmp_path / "run", "x", train={"grader": ""})
    with pytest.raises(TinyslmError, match="reads 64 tokens, and answers may have 64"):
        learn(folder, tmp_path / "run", "one", grpo={"max_tokens": 64})
    assert not (tmp_path / "run" / "config.json").exists()


def test_advantages_compare_the_rewards_of_a_group() -> None:
    assert advantages([1.0, 0.0], scaled=False) == [0.5, -0.5]
    assert advantages([1.0, 0.0], scaled=True) == pytest.approx([2**-0.5, -(2**-0.5)], rel=1e-3)
    assert advantages([0.3] * 3, scaled=True) == [0, 0, 0]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"equal_groups": 0.2}, {"equal_groups": 0.95, "reward": 0.1}, "use easier prompts"),
        ({"equal_groups": 0.2}, {"equal_groups": 0.95, "reward": 0.9}, "use harder prompts"),
        ({"answer_tokens": 90.0}, {"answer_tokens": 9.0}, "have shrunk from 90 to"),
        ({"truncated": 0.0}, {"truncated": 0.8}, "80% of the answers reach the limit"),
        ({"entropy": 2.0}, {"entropy": 0.1}, "entropy has fallen from 2.00 to"),
        ({"kl": 0.0}, {"kl": 3.0}, "3.0 nats per token away"),
    ],
)
def test_an_alarm_is_given_once(before: dict, after: dict, words: str) -> None:
    calm = {"answer_tokens": 50.0, "entropy": 2.0}
    alarms = Alarms()
    assert [text for _ in range(10) for text in alarms.after(calm | before)] == []
    given = [text for _ in range(10) for text in alarms.after(calm | before | after)]
    assert len(given) == 1
    assert words in given[0]


def test_rejection_sampling_learns_the_best_answers(folder: Path, tmp_path: Path) -> None:
    """The accepted answers are all that the model learns; the rows' other fields reach the grader."""
    settings = {"rejection": {"least_score": 0.1}, "grpo": {"group": 32, "max_tokens": 24}}
    settings |= {"train": {"grader": f"{folder / 'graders.py'}:vowels", "device": "cpu", "steps": 10}}
    said: list[str] = []
    files = ExampleFiles([folder / "asks.jsonl"], valid=[folder / "asks.jsonl"])
    out, watch = tmp_path / "run", Watch(notify=said.append)
    result = finetune(
        folder / "base", files, out, method="rejection", settings={**settings, "lora": {"rank": 0}}, watch=watch
    )
    assert any("of 12 prompts got an answer to learn" in text for text in said)
    assert result["loss"] < result["before"]["loss"]
    train, _, tokenizer = open_examples(out / "data")
    for example in train:
        answer = tokenizer.decode(example.ids[example.learned].tolist()[:-1])
        assert sum(one in "aeiou" for one in answer) / max(8, len(answer)) >= 0.1
    strict = {**settings, "rejection": {"least_score": 1.0}}
    with pytest.raises(TinyslmError, match=r"No answer scored 1 or more; the best scored 0\.\d\d"):
        finetune(folder / "base", files, tmp_path / "other", method="rejection", settings=strict)


def test_prompts_are_checked_first(folder: Path, tmp_path: Path) -> None:
    """Rows without answers raise no false alarms; secrets in them are errors."""
    said: list[str] = []
    rows = [{"prompt": f"what is {number}"} for number in range(12)]
    (tmp_path / "asks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"train": {"grader": "exact", "device": "cpu", "steps": 1}, "grpo": {"max_tokens": 4}}
    files = ExampleFiles([tmp_path / "asks.jsonl"])
    with pytest.raises(TinyslmError, match='no field "answer"'):  # before anything is sampled
        finetune(folder / "base", files, tmp_path / "early", method="grpo", settings=settings)
    settings["train"]["grader"] = f"{folder / 'graders.py'}:one"
    files = ExampleFiles([tmp_path / "asks.jsonl"])
    watch = Watch(notify=said.append)
    finetune(folder / "base", files, tmp_path / "run", method="grpo", settings=settings, watch=watch)
    assert said == []
    secret = {"prompt": "Use AKIAQ3EGR7TZX2LMNV5K for it."}
    (tmp_path / "asks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, secret]))
    with pytest.raises(TinyslmError, match=r"asks\.jsonl, row 13"):
        finetune(folder / "base", files, tmp_path / "other", method="grpo", settings=settings)
