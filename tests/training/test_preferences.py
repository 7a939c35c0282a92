"""Learning from preferences: pairs as served, a loss that starts where it must, a model that prefers what it saw."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from chat_template_styles import AGAIN, ASSISTANT, STYLES, USER
from tokenizer_folders import write_folder

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import Conversation
from tinyslm.data.examples import examples_of, open_examples
from tinyslm.data.preferences import KIND, pair_of, prepare_preferences
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, save_model
from tinyslm.model.lora import add_adapters
from tinyslm.model.lora_config import LoraConfig
from tinyslm.planning.finetune import finetune
from tinyslm.planning.methods.method import ExampleFiles
from tinyslm.planning.train import resume
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.interrupt import Interrupted
from tinyslm.training.metrics import read_metrics
from tinyslm.training.pipeline import Watch
from tinyslm.training.stage import Batch
from tinyslm.training.stages import dpo
from tinyslm.training.stages.dpo import LOSSES, Dpo
from tinyslm.training.stages.sft import batch_of
from tinyslm.training.world import World

CHOSEN, REJECTED = {"role": "assistant", "content": "Six legs."}, {"role": "assistant", "content": "No legs at all."}
FAST = {"train": {"batch": 4, "steps": 12, "checkpoint_minutes": 1.0, "device": "cpu"}}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    return Tokenizer.load(write_folder("llama2", tmp_path_factory.mktemp("tokenizer") / "model"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, shards) -> Path:
    """A model folder with random weights; it drops units in training, which the reference must not."""
    torch.manual_seed(0)
    shape = {"dim": 64, "heads": 2, "depth": 2, "context": 128, "dropout": 0.1, "init_std": 0.1}
    folder = tmp_path_factory.mktemp("base") / "model"
    save_model(Decoder(ModelConfig(vocab_size=shards.tokenizer.vocab_size, **shape)), folder, shards.tokenizer)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "pairs.jsonl"
    made = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no, never"} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


@pytest.fixture
def stage(base: Path, shards, tmp_path: Path):
    """Makes the stage on three pairs, with other settings of its section, or of the adapters."""

    def make(rank: int = 4, **settings) -> Dpo:
        pairs = [preference([{"role": "user", "content": f"{n}?"}]) for n in range(3)]
        prepare_preferences(iter(pairs), tmp_path / "data", shards.tokenizer, context=100, valid=iter(pairs))
        train = {"stage": "dpo", "start_from": str(base), "row_tokens": 150, "device": "cpu", "batch": 2, "steps": 1}
        train["dtype"] = "fp32"
        config = build_config(RunConfig, {"train": train, "dpo": settings, "lora": {"rank": rank}})
        return Dpo.open(tmp_path / "data", config, World())

    return make


def preference(asked: list) -> Conversation:
    return Conversation([*asked, CHOSEN], "row 1", rejected=REJECTED)


def trained(base: Path, rank: int) -> Decoder:
    """The base after training: with adapters, or other weights."""
    model = load_model(base)
    if rank:
        add_adapters(model, LoraConfig(rank=rank))
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("asked", [[USER], [USER, ASSISTANT, AGAIN]], ids=["one turn", "two turns"])
@pytest.mark.parametrize("style", STYLES)
def test_both_answers_of_a_pair_follow_the_prompt_that_is_served(style: str, asked, tokenizer: Tokenizer) -> None:
    tokenizer.chat_template = STYLES[style]
    prompt = encode_chat(tokenizer, asked, add_generation_prompt=True)
    for example, message in zip(pair_of(preference(asked), tokenizer), (CHOSEN, REJECTED), strict=True):
        (alone,) = examples_of(Conversation([*asked, message], ""), tokenizer)[-1:]
        begin = int(np.argmax(example.learned))
        assert example.ids.tolist() == alone.ids.tolist()
        assert example.ids[:begin].tolist() == prompt
        assert not example.learned[:begin].any()
        assert example.learned[begin:].tolist() == alone.learned[begin:].tolist()


def test_pairs_stay_together_and_what_cannot_be_learned_is_left_out(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.chat_template = STYLES["SmolLM2"]
    ask = [{"role": "user", "content": f"{n}?"} for n in range(10)]
    long = {"role": "assistant", "content": "word " * 300}
    pairs = [preference([one]) for one in ask]
    pairs[3] = Conversation([ask[3], CHOSEN], "row 4", rejected=CHOSEN)
    pairs[5] = Conversation([ask[5], CHOSEN], "row 6", rejected=long)
    found = prepare_preferences(iter(pairs), tmp_path / "data", tokenizer, context=120, valid_share=0.2)
    assert found.left_out == {"equal answers": 1, "longer than 120 tokens": 1}
    train, valid, _ = open_examples(tmp_path / "data", kind=KIND)
    assert (train.groups + valid.groups, len(train)) == (8, 2 * train.groups)
    for number in range(train.groups):
        texts = [tokenizer.decode(one.ids[one.learned].tolist()) for one in train.group(number)]
        assert [text.split("<")[0].strip() for text in texts] == [CHOSEN["content"], REJECTED["content"]]
    with pytest.raises(TinyslmError, match="no prepared conversations"):
        open_examples(tmp_path / "data")
    with pytest.raises(TinyslmError, match="row 1 cannot be used: it has no rejected answer"):
        pair_of(Conversation([ask[0], CHOSEN], "row 1"), tokenizer)


@pytest.mark.parametrize("rank", [4, 0])
@pytest.mark.parametrize("loss", list(LOSSES))
def test_the_loss_of_packed_pairs_is_that_of_the_formula(stage, base: Path, loss: str, rank: int) -> None:
    opened, model = stage(rank, loss=loss, beta=0.5, rpo_alpha=0.25), trained(base, rank).eval()
    batch = opened.batches.next(model)
    loss_sum, weight, metrics = opened.loss(model, batch)
    assert weight == opened._held_out.groups == 3
    reference, expected = load_model(base).eval(), 0.0
    for number in range(3):
        ratios, ours = [], []
        for example in opened._held_out.group(number):
            sums = []
            for one in (model, reference):
                log_p = one(torch.from_numpy(example.ids[None, :-1])).log_softmax(-1)[0]
                chosen = log_p[torch.arange(len(log_p)), torch.from_numpy(example.ids[1:])]
                sums.append(chosen[torch.from_numpy(example.learned[1:])].sum().item())
            tokens = int(example.learned.sum())
            ours.append(sums[0] / tokens)
            ratios.append((sums[0] - sums[1]) / (1 if loss == "sigmoid" else tokens))
        delta = ratios[0] - ratios[1]
        expected += (delta - 1) ** 2 if loss == "ipo" else math.log1p(math.exp(-0.5 * delta))
        expected -= 0.25 * ours[0]
    assert loss_sum.item() == pytest.approx(float(expected), rel=1e-4)
    assert metrics["rewards/margins"] == pytest.approx(
        metrics["rewards/chosen"] - metrics["rewards/rejected"], abs=1e-5
    )


@pytest.mark.parametrize("rank", [4, 0])
def test_before_training_nothing_is_preferred(stage, base: Path, rank: int) -> None:
    for loss, start in {"sigmoid": math.log(2), "ipo": 25.0, "sigmoid_norm": math.log(2)}.items():
        opened, model = stage(rank, loss=loss), load_model(base)
        if rank:
            add_adapters(model, LoraConfig(rank=rank))
        score = opened.score(model, 10_000, lambda: None)
        assert score["loss"] == pytest.approx(start, rel=1e-5)
        assert score["accuracy"] == 0.5
        assert opened.validate(model, torch.float32, 10_000) == pytest.approx(start, rel=1e-5)


def test_only_answers_reach_the_output_projection(stage, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, opened, seen = trained(base, 4), stage(), []
    project = dpo.log_probs
    monkeypatch.setattr(dpo, "log_probs", lambda *given: seen.append(given[1].shape) or project(*given))
    batch: Batch = opened.batches.next(model)
    opened.loss(model, batch)
    assert seen == [(batch.learned, model.config.dim)] * 2


@pytest.mark.parametrize("rank", [8, 0])
def test_a_model_learns_to_prefer(base: Path, rows: Path, tmp_path: Path, rank: int) -> None:
    settings = {**FAST, "optimizer": {"lr": 5e-3 if rank else 1e-3}, "lora": {"rank": rank}}
    result = finetune(base, ExampleFiles([rows], valid=[rows]), tmp_path / "run", method="dpo", settings=settings)
    assert result["before"]["accuracy"] == 0.5
    assert result["accuracy"] == 1.0
    assert result["verdict"]["better"]
    assert result["verdict"]["gain"]["unit"] == "loss per pair"
    assert result["loss"] < 0.5 < result["before"]["loss"] == pytest.approx(math.log(2), rel=1e-5)
    steps = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["event"] == "step"]
    assert steps[-1]["rewards/margins"] > steps[0]["rewards/margins"]
    assert steps[-1]["rewards/accuracies"] == 1.0


def test_a_stopped_run_of_adapters_resumes_to_the_same_weights(base: Path, rows: Path, tmp_path: Path) -> None:
    train = {**FAST["train"], "steps": 5, "checkpoint_minutes": 0.0}
    settings = {"train": train, "lora": {"rank": 4, "dropout": 0.1}}

    def stop(event: dict) -> None:
        if event["event"] == "checkpoint" and event["step"] == 3:
            raise Interrupted(3)

    finetune(base, [rows], tmp_path / "whole", method="dpo", settings=settings)
    with pytest.raises(Interrupted):
        finetune(base, [rows], tmp_path / "stopped", method="dpo", settings=settings, watch=Watch(event=stop))
    resume(tmp_path / "stopped")
    one, other = (load_model(tmp_path / name / "model").state_dict() for name in ("whole", "stopped"))
    assert all(one[name].equal(other[name]) for name in one)


def test_what_cannot_be_preferred_is_refused(base: Path, rows: Path, tmp_path: Path) -> None:
    plain = tmp_path / "rows.jsonl"
    plain.write_text('{"prompt": "1?", "completion": "yes"}\n')
    with pytest.raises(TinyslmError, match=r"rows\.jsonl, row 1 cannot be used: it has no rejected answer"):
        finetune(base, [plain], tmp_path / "run", method="dpo")
    mapped = ExampleFiles([rows], fields={"prompt": "prompt", "answer": "chosen"})
    with pytest.raises(TinyslmError, match="fields of rejected and prompt and chosen were not all named"):
        finetune(base, mapped, tmp_path / "x", method="dpo")
    with pytest.raises(TinyslmError, match="dpo needs a model to start from"):
        build_config(RunConfig, {"train": {"stage": "dpo"}})


def test_batches_keep_pairs_in_a_row(stage, base: Path) -> None:
    batch = stage().batches.next(load_model(base))
    assert [int(row.max()) + 1 for row in batch.segments] in ([2, 4], [4, 2])
    assert batch_of([[*stage()._held_out.group(0)]]).segments.max() == 1
