"""The plan of fine-tuning: rules without tensors, what fits into the memory, and a rehearsal of a small model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.model.config import ModelConfig
from tinyslm.planning.finetune import finetune, plan_finetune
from tinyslm.planning.finetuning_plan import (
    FEWEST_UPDATES,
    Measured,
    adapter_rank,
    batch_rows,
    capacity,
    fitting_updates,
    length,
    looked_at,
    micro_batch_of,
    run_seconds,
    samples_on_the_way,
)
from tinyslm.planning.methods.dpo import DPO
from tinyslm.planning.methods.sft import SFT
from tinyslm.planning.train import train
from tinyslm.training.config import RunConfig
from tinyslm.training.finetuning_memory import fitting, peak_bytes
from tinyslm.training.metrics import read_metrics
from tinyslm.training.pipeline import Watch

SMOLLM = ModelConfig(dim=576, depth=30, heads=9, kv_heads=3, ffn_dim=1536, vocab_size=49152, context=2048, tied=True)
MEASURED = Measured(spent=20.0, update=2.0, tokens=1800, validation=0.5, sample=1.0, ending=15.0)


def config(**train: object) -> RunConfig:
    loop = {"stage": "sft", "start_from": "base", "steps": 9, "batch": 8, "row_tokens": 256, "micro_batch": 8, **train}
    values = {"model": SMOLLM.model_dump(), "lora": {"rank": 16}, "train": loop, "optimizer": {"name": "adamw"}}
    return build_config(RunConfig, values)


def test_the_rank_follows_from_what_there_is_to_learn() -> None:
    assert adapter_rank(50_000, SMOLLM) == 16
    assert adapter_rank(8_000_000, SMOLLM) == 32
    assert adapter_rank(10**9, SMOLLM) == 128
    assert capacity(16, SMOLLM) == 2 * 4_884_480  # what peft counts for all linear layers of SmolLM2-135M


def test_a_short_run_makes_smaller_batches() -> None:
    assert batch_rows(8, 256, affordable_tokens=10**6) == 8
    assert batch_rows(8, 256, affordable_tokens=FEWEST_UPDATES * 4 * 256) == 4
    assert batch_rows(8, 256, affordable_tokens=1000) == 2  # 512 tokens are worth an optimizer step
    assert batch_rows(1, 2048, affordable_tokens=1000) == 1
    assert [micro_batch_of(12, most) for most in (12, 5, 1)] == [12, 4, 1]


def test_the_parts_of_a_run_fill_its_time() -> None:
    samples = samples_on_the_way(300.0, MEASURED.sample)
    assert samples == 5
    steps = fitting_updates(MEASURED, 300.0, samples)
    assert 296 <= run_seconds(MEASURED, steps, samples) <= 300
    assert fitting_updates(MEASURED, 1.0, 1) == 1
    assert samples_on_the_way(60.0, sample=5.0) == 1
    assert looked_at(60.0, 0.05, 0.001, fewest=512, most=4096) == 3000
    assert looked_at(60.0, 0.05, 0.1, fewest=512, most=4096) == 512


def test_more_than_four_epochs_are_only_made_if_asked_for() -> None:
    assert length(100, rows=800, batch=8) == (100, "")
    steps, why = length(5000, rows=800, batch=8)
    assert steps == 400
    assert "--epochs" in why
    assert length(5000, rows=0, batch=8) == (5000, "")


def test_less_memory_means_fewer_rows_at_once() -> None:
    whole = config()
    assert fitting(whole, peak_bytes(whole), fixed=True) == whole
    half = config(micro_batch=4)
    assert fitting(whole, peak_bytes(half), fixed=False).train.micro_batch == 4
    with pytest.raises(TinyslmError, match=r"needs about .* GB of memory, and .* are free\.\n.*--train.micro_batch 4"):
        fitting(whole, peak_bytes(half), fixed=True)
    long = config(row_tokens=2048, batch=1, micro_batch=1)
    again = config(row_tokens=2048, batch=1, micro_batch=1, checkpoint_activations=True)
    assert peak_bytes(again) < 0.8 * peak_bytes(long)
    with pytest.raises(TinyslmError, match=r"--train\.micro_batch 1 --train\.checkpoint-activations true"):
        fitting(long, peak_bytes(again), fixed=False)
    with pytest.raises(TinyslmError, match="Choose a smaller model"):
        fitting(long, 10**9, fixed=False)
    assert peak_bytes(config()) < peak_bytes(config(dtype="fp32"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, shards) -> Path:
    out = tmp_path_factory.mktemp("base") / "run"
    shape = {"dim": 32, "heads": 2, "depth": 1, "context": 256, "dropout": 0.0}
    train([shards.folder], out, settings={"model": shape, "train": {"steps": 2, "batch": 4, "device": "cpu"}})
    return out / "model"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps({"question": f"{n}?", "answer": f"{n}!"}) + "\n" for n in range(40)))
    return path


def test_all_weights_of_small_models_are_taught_with_a_higher_rate() -> None:
    sizes = (500_000_000, 135_000_000, 2_115_584, 10_000)
    assert [SFT.rate(size, adapters=False) for size in sizes] == [1e-4, 1e-4, 8e-4, 1e-3]
    assert {SFT.rate(size, adapters=True) for size in sizes} == {1e-3}
    assert {DPO.rate(size, adapters=False) for size in sizes} == {2e-6}


def test_a_plan_says_what_a_run_would_do(base: Path, rows: Path) -> None:
    plan = plan_finetune(base, [rows], settings={"train": {"device": "cpu", "seed": 3}})
    told = plan.as_result()
    assert told["rank"] == 16
    assert told["epochs"] == pytest.approx(3, abs=0.5)
    assert told["seconds"] > told["seconds_before"] + told["seconds_after"] > 0
    assert 10**8 < told["memory_bytes"] < 4 * 10**9
    words = dict(plan.lines())
    assert words["trains"].startswith("adapters of rank 16")
    assert f"{plan.rows:,} rows" in words["length"]
    fixed = {"train": {"device": "cpu", "steps": 7, "batch": 2}, "lora": {"rank": 0}}
    told = plan_finetune(base, [rows], settings=fixed).as_result()
    assert (told["rank"], told["steps"], told["batch"], told["learning_rate"]) == (0, 7, 2, 1e-3)


def test_a_run_with_a_time_is_planned_and_stops_after_four_epochs(base: Path, rows: Path, tmp_path: Path) -> None:
    events: list[dict] = []
    settings = {"train": {"device": "cpu"}, "optimizer": {"lr": 0.01}}
    result = finetune(base, [rows], tmp_path / "run", minutes=3, settings=settings, watch=Watch(event=events.append))
    (plan,) = [event["plan"] for event in events if event["event"] == "planned"]
    assert plan.why.startswith("more than 4 epochs")
    done = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["event"] == "step"]
    assert len(done) == plan.steps
    assert plan.epochs == pytest.approx(4, abs=0.5)
    assert result["verdict"]["gain"]["examples"] == result["conversations"]
    assert (tmp_path / "run" / "before.json").is_file()


def test_a_plan_without_epochs_has_none() -> None:
    from tinyslm.planning.finetuning_plan import FinetuningPlan

    plan = FinetuningPlan(config(), MEASURED, 0, 9, 60.0, 10**9, 10**10)
    assert dict(plan.lines())["length"] == "9 updates"
    assert dict(replace(plan, rows=72).lines())["length"] == "9 updates, 1 epoch of 72 rows"
