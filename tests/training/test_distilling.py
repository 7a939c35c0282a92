"""Distillation on conversations: the student learns a teacher's distributions, on given answers or its own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import Conversation
from tinyslm.data.examples import prepare_examples
from tinyslm.evaluation.loss import kl_divergence
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, read_model_config, save_model
from tinyslm.planning.finetune import finetune
from tinyslm.planning.methods.method import ExampleFiles
from tinyslm.tokenizer.training import train_tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.divergence import divergences, generalised_jsd
from tinyslm.training.finetuning_memory import peak_bytes
from tinyslm.training.metrics import read_metrics
from tinyslm.training.stage_config import DistillConfig
from tinyslm.training.stages.distill_answers import DistillAnswers
from tinyslm.training.world import World

TALKS = [
    Conversation(
        [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"It is {n}."}] * (1 + n % 2), ""
    )
    for n in range(8)
]


def model_folder(folder: Path, shards, dim: int, seed: int) -> Path:
    torch.manual_seed(seed)
    shape = {"dim": dim, "heads": 2, "depth": 2, "context": 128, "dropout": 0.0, "init_std": 0.2}
    save_model(Decoder(ModelConfig(vocab_size=shards.tokenizer.vocab_size, **shape)), folder, shards.tokenizer)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, shards) -> dict[str, Path]:
    """A small student, and a larger teacher."""
    out = tmp_path_factory.mktemp("models")
    sizes = {"student": (32, 0), "teacher": (64, 1)}
    return {name: model_folder(out / name, shards, dim, seed) for name, (dim, seed) in sizes.items()}


@pytest.fixture
def stage(folders, shards, tmp_path: Path):
    """Makes the stage on `TALKS`."""

    def make(**settings) -> DistillAnswers:
        prepare_examples(iter(TALKS), tmp_path / "data", shards.tokenizer, context=128, valid=iter(TALKS))
        train = {"stage": "distill_answers", "start_from": str(folders["student"]), "teacher": str(folders["teacher"])}
        train |= {"row_tokens": 128, "device": "cpu", "batch": 2, "steps": 1, "dtype": "fp32"}
        config = build_config(RunConfig, {"train": train, "distill": settings})
        return DistillAnswers.open(tmp_path / "data", config, World())

    return make


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_loss_is_the_divergence_on_the_answers(stage, folders, beta: float) -> None:
    opened, student = stage(beta=beta, temperature=2.0), load_model(folders["student"])
    loss_sum, weight, _ = opened.loss(student, opened.batches.next(student))
    opened.batches.restore({"epoch": 0, "position": 0, "number": 0})
    expected, tokens, teacher = 0.0, 0, load_model(folders["teacher"]).eval()
    for example in (one for row in opened.batches.loader.next() for one in row):
        ids = torch.from_numpy(example.ids[None, :-1])
        p, q = (
            (model(ids)[0] / 2).log_softmax(-1)[torch.from_numpy(example.learned[1:])] for model in (teacher, student)
        )
        mixed = (beta * p.exp() + (1 - beta) * q.exp()).log()
        whole = beta * kl_divergence(p, mixed) + (1 - beta) * kl_divergence(q, mixed)
        whole = kl_divergence(p, q) if beta == 0 else kl_divergence(q, p) if beta == 1 else whole
        expected, tokens = expected + whole.sum().item(), tokens + len(whole)
    assert weight == tokens
    assert loss_sum.item() == pytest.approx(expected, rel=1e-4)


def test_a_divergence_from_itself_is_zero() -> None:
    log_p = torch.randn(3, 7).log_softmax(-1)
    for beta in (0.0, 0.5, 1.0):
        assert torch.allclose(generalised_jsd(log_p, log_p, beta), torch.zeros(3), atol=1e-6)
        assert (generalised_jsd(torch.randn(3, 7).log_softmax(-1), log_p, beta) > 0).all()


def test_ids_that_only_one_model_has_do_not_count(folders) -> None:
    """Model folders may have more rows in their tables than the tokenizer has ids."""
    student, teacher = (load_model(folders[name]).eval() for name in ("student", "teacher"))
    shape = teacher.config.model_copy(update={"vocab_size": teacher.config.vocab_size + 64})
    padded, rows = Decoder(shape), teacher.config.vocab_size
    kept = {name: tensor for name, tensor in teacher.state_dict().items() if tensor.shape[0] != rows}
    padded.load_state_dict(kept, strict=False)
    for name in ("model.embed_tokens", "lm_head"):
        padded.get_submodule(name).weight.data[:rows] = teacher.get_submodule(name).weight
    ids = torch.arange(10)[None]
    given = [model.model(ids)[0] for model in (student, teacher, padded)]
    settings = DistillConfig(beta=0.5)
    expected = divergences(student, teacher, given[0], given[1], settings)
    assert torch.allclose(divergences(student, padded, given[0], given[2], settings), expected, atol=1e-6)


def test_a_student_samples_its_own_answers(stage, folders, shards) -> None:
    opened, student = stage(on_policy=0.5, answer_tokens=6), load_model(folders["student"])
    batches = [opened.batches.next(student) for _ in range(4)]
    assert [batch.metrics["on_policy"] for batch in batches] == [0, 1, 0, 1], "half of the batches, spread evenly"
    opened.batches.restore({"epoch": 0, "position": 0, "number": 1})
    again = opened.batches.next(student)
    opened.batches.restore({"epoch": 0, "position": 0, "number": 0})
    given = [one for row in opened.batches.loader.next() for one in row]
    made = [one for row in opened.batches._sampled(student, [given]) for one in row]
    assert again.learned <= 6 * len(given)
    for example, own in zip(sorted(given, key=prompted), sorted(made, key=prompted), strict=True):
        answer = own.ids[own.learned].tolist()
        assert own.ids[~own.learned].tolist() == example.prompt.tolist()
        assert 1 <= len(answer) <= 6
        assert len(answer) == 6 or answer[-1] in shards.tokenizer.stop_ids
        assert answer != example.ids[len(example.prompt) :][:6].tolist()
    opened.batches.restore({"epoch": 0, "position": 0, "number": 1})
    assert opened.batches.next(student).inputs.equal(again.inputs), "the same weights and number, the same answers"


def prompted(example) -> list[int]:
    return example.prompt.tolist()


@pytest.mark.parametrize("on_policy", [0.0, 1.0])
def test_a_student_approaches_its_teacher(folders, tmp_path: Path, on_policy: float) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": f"{n}?", "answer": f"It is {n}."}) + "\n" for n in range(8)))
    train = {"teacher": str(folders["teacher"]), "batch": 2, "steps": 12, "device": "cpu"}
    distill = {"on_policy": on_policy, "answer_tokens": 12}
    settings = {"lora": {"rank": 0}, "optimizer": {"lr": 0.01}, "train": train, "distill": distill}
    out = tmp_path / "run"
    result = finetune(folders["student"], ExampleFiles([rows], valid=[rows]), out, method="distill", settings=settings)
    assert result["loss"] < 0.8 * result["before"]["loss"]
    assert "perplexity" not in result
    steps = [row for row in read_metrics(out / "metrics.jsonl") if row["event"] == "step"]
    assert [row.get("on_policy") for row in steps] == [on_policy or None] * 12


def test_a_teacher_that_does_not_suit_is_refused(folders, shards, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1?", "answer": "It is 1."}\n{"question": "2?", "answer": "It is 2."}\n')

    def distill(teacher: Path) -> None:
        settings = {"train": {"teacher": str(teacher), "steps": 1, "device": "cpu"}}
        finetune(folders["student"], [rows], tmp_path / "run", method="distill", settings=settings)

    other = train_tokenizer([Path(__file__).read_text()], vocab_size=320)
    shape = ModelConfig(vocab_size=other.vocab_size, dim=32, heads=2, depth=1, context=64)
    save_model(Decoder(shape), tmp_path / "other", other)
    with pytest.raises(TinyslmError, match=r"reads other tokens than the model in .*: the special token"):
        distill(tmp_path / "other")
    shape = ModelConfig(vocab_size=shards.tokenizer.vocab_size, dim=32, heads=2, depth=1, context=16)
    save_model(Decoder(shape), tmp_path / "short", shards.tokenizer)
    with pytest.raises(TinyslmError, match="reads 16 tokens, and an example has"):
        distill(tmp_path / "short")
    with pytest.raises(TinyslmError, match="needs a teacher"):
        finetune(folders["student"], [rows], tmp_path / "run", method="distill")
    with pytest.raises(TinyslmError, match="on_policy needs conversations"):
        build_config(RunConfig, {"train": {"stage": "distill_text", "teacher": "x"}, "distill": {"on_policy": 1}})
    assert not (tmp_path / "run" / "config.json").exists()


def test_only_the_last_answer_is_sampled(shards) -> None:
    from tinyslm.data.examples import examples_of

    (example,) = examples_of(TALKS[1], shards.tokenizer)
    runs = np.flatnonzero(np.diff(example.learned.astype(int)) == 1) + 1
    assert len(runs) == 2
    assert len(example.prompt) == runs[1]


def test_a_plan_counts_the_memory_of_the_second_model(folders) -> None:
    def memory(stage: str, rank: int = 4) -> int:
        train = {"stage": stage, "start_from": str(folders["student"]), "teacher": str(folders["teacher"])}
        return peak_bytes(build_config(RunConfig, {"train": {**train, "dtype": "fp32"}, "lora": {"rank": rank}}))

    sizes = {name: read_model_config(folder).parameters for name, folder in folders.items()}
    assert memory("distill_answers") - memory("sft") == 4 * sizes["teacher"]
    assert memory("dpo") == memory("sft")
    assert memory("dpo", rank=0) - memory("sft", rank=0) == 4 * RunConfig().model.parameters
