"""Stages: what every one promises to the loop and the run, whatever is learned."""

from pathlib import Path

import pytest
import torch
from several import free_port, join
from tiny_run import TINY

from tinyslm.core.config import build_config, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import Conversation
from tinyslm.data.examples import prepare_examples
from tinyslm.data.preferences import prepare_preferences
from tinyslm.data.prompts import prepare_prompts
from tinyslm.data.shards import Shards
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, save_model
from tinyslm.planning.train import resume, train
from tinyslm.training.building import Order, build
from tinyslm.training.config import LoopConfig, RunConfig
from tinyslm.training.interrupt import Interrupted
from tinyslm.training.loop import StepSettings, accumulate
from tinyslm.training.metrics import read_metrics
from tinyslm.training.pipeline import finish
from tinyslm.training.run import Run
from tinyslm.training.stages import STAGES, first_model, open_stage
from tinyslm.training.world import World


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, shards: Shards) -> Path:
    """A model folder with the shards' tokenizer."""
    out = tmp_path_factory.mktemp("teacher") / "run"
    train([shards.folder], out, settings=TINY)
    return out / "model"


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory, shards: Shards) -> Path:
    """An examples folder with the shards' tokenizer."""
    asked = [
        [{"role": "user", "content": f"{n} + 1?"}, {"role": "assistant", "content": str(n + 1)}] for n in range(60)
    ]
    conversations = [Conversation(messages * (1 + number % 2), "") for number, messages in enumerate(asked)]
    out = tmp_path_factory.mktemp("talks") / "talks"
    return prepare_examples(iter(conversations), out, shards.tokenizer, context=128, valid_share=0.2).folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, shards: Shards) -> Path:
    """A folder of preferences with the shards' tokenizer."""
    answers = [{"role": "assistant", "content": text} for text in ("yes", "no")]
    conversations = (
        Conversation([{"role": "user", "content": f"{n}?"}, answers[0]], "", rejected=answers[1]) for n in range(60)
    )
    out = tmp_path_factory.mktemp("pairs") / "pairs"
    return prepare_preferences(conversations, out, shards.tokenizer, context=128, valid_share=0.2).folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, shards: Shards) -> Path:
    """An untrained model folder that reads conversations."""
    shape = ModelConfig(vocab_size=shards.tokenizer.vocab_size, **{**TINY["model"], "context": 128})
    folder = tmp_path_factory.mktemp("base") / "model"
    save_model(Decoder(shape), folder, shards.tokenizer)
    return folder


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, shards: Shards) -> Path:
    """A prompts folder with the shards' tokenizer, beside a grader that even random answers please sometimes."""
    folder = tmp_path_factory.mktemp("asked")
    (folder / "grader.py").write_text("def grade(example, answer):\n    return sum(map(ord, answer)) % 10 / 10\n")
    asked = (Conversation([{"role": "user", "content": f"{n} + 1?"}], "") for n in range(20))
    prepare_prompts(asked, folder / "prompts", shards.tokenizer, longest=100, valid_share=0.2)
    return folder / "prompts"


@pytest.fixture(params=list(STAGES))
def settings(request: pytest.FixtureRequest, tiny_config, teacher: Path, base: Path, asked: Path):
    """Settings of a short run of each stage."""
    train = {"stage": request.param, "teacher": str(teacher), "validate_every": 4}
    further = FURTHER.get(request.param, lambda *_: {})(str(base), asked.parent)
    return tiny_config(**merge({"train": train}, further))


FURTHER = {
    "sft": lambda *_: {"model": {"context": 128}},
    "dpo": lambda base, _: {"train": {"start_from": base, "row_tokens": 140}},
    "grpo": lambda _, asked: {
        "model": {"context": 128},
        "grpo": {"prompts": 2, "group": 4, "max_tokens": 8, "updates": 2},
        "train": {"grader": f"{asked / 'grader.py'}:grade", "validation_tokens": 256},
    },
    "distill_answers": lambda base, _: {
        "model": {"context": 128},
        "train": {"teacher": base},
        "distill": {"on_policy": 0.5, "answer_tokens": 8, "beta": 0.5},
    },
}
"""What a stage needs besides text and a teacher; given a base that reads conversations, and a grader's folder."""


@pytest.fixture
def data(settings, shards: Shards, talks: Path, pairs: Path, asked: Path) -> Path:
    """What the stage learns from."""
    folders = {"sft": talks, "distill_answers": talks, "dpo": pairs, "grpo": asked}
    return folders.get(settings.train.stage, shards.folder)


def test_micro_batches_of_a_stage_have_the_gradient_of_the_whole(data: Path, settings) -> None:
    stage, config = open_stage(data, settings, World())
    batch = stage.batches.next(first_model(config, torch.device("cpu")))
    gradients = []
    for micro_batch in (4, 1):
        torch.manual_seed(0)
        model = build(Order(Path(), data, config.model_copy(deep=True)), World()).model.eval()
        model.train = lambda mode=True, model=model: model  # type: ignore[method-assign]  # no dropout
        accumulate(model, stage.loss, batch, StepSettings(1, micro_batch, 0.0, torch.float32, lambda step: 1.0))
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


@pytest.fixture(scope="module")
def every_stage(shards: Shards, talks: Path, pairs: Path, teacher: Path, base: Path, asked: Path) -> dict[str, tuple]:
    """Settings and data of each stage, with batches that four processes cannot share equally."""
    folders = {"sft": talks, "distill_answers": talks, "dpo": pairs, "grpo": asked}
    five = {"model": {"dropout": 0.0}, "train": {"batch": 5, "micro_batch": 0, "dtype": "fp32"}, "grpo": {"prompts": 5}}
    found = {}
    for name in STAGES:
        train = {"stage": name, "teacher": str(teacher)}
        further = merge(FURTHER.get(name, lambda *_: {})(str(base), asked.parent), five)
        found[name] = (merge(merge(TINY, {"train": train}), further), str(folders.get(name, shards.folder)))
    return found


@pytest.mark.parametrize("size", [2, 4])
def test_processes_have_the_gradient_of_one(
    processes, tmp_path: Path, every_stage: dict[str, tuple], size: int
) -> None:
    """Each process computes its share of a batch, in micro-batches; all divide by the weight of the whole."""
    port = free_port()
    some = [
        processes.Process(target=_gradients, args=(rank, size, port, str(tmp_path), every_stage))
        for rank in range(size)
    ]
    for process in some:
        process.start()
    _gradients(0, 1, 0, str(tmp_path), every_stage)
    for process in some:
        process.join(120)
        assert process.exitcode == 0
    for name in every_stage:
        one, other = (torch.load(tmp_path / f"{name}.{count}.pt", weights_only=True) for count in (1, size))
        assert one.pop("weight") == other.pop("weight"), name
        for parameter, gradient in one.items():
            torch.testing.assert_close(
                other[parameter], gradient, atol=1e-6, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
            )


def _gradients(rank: int, size: int, port: int, out: str, stages: dict[str, tuple]) -> None:
    """One process: the gradient of the first batch of each stage, saved by process 0."""
    if size > 1:
        torch.set_num_threads(1)
        join(rank, size, port)
    world = World.current()
    for name, (settings, data) in stages.items():
        stage, config = open_stage(Path(data), build_config(RunConfig, settings), world)
        torch.manual_seed(0)
        model = first_model(config, torch.device("cpu"))
        batch = stage.batches.next(model)
        micro_batch = StepSettings(1, 2, 0.0, torch.float32, lambda step: 1.0)
        weight = accumulate(model, stage.loss, batch, micro_batch, world)[1]
        found = {key: one.grad / weight for key, one in model.named_parameters() if one.grad is not None}
        if world.leads:
            torch.save({**found, "weight": torch.tensor(weight)}, f"{out}/{name}.{size}.pt")
    if size > 1:
        torch.distributed.destroy_process_group()


def test_a_run_of_a_stage_resumes_to_the_same_weights(tmp_path: Path, data: Path, settings) -> None:
    def stop(event: dict) -> None:
        if event["event"] == "checkpoint" and event["step"] == 5:
            raise Interrupted(5)

    whole = finish(Run.start(tmp_path / "whole", data, settings))
    with pytest.raises(Interrupted):
        finish(Run.start(tmp_path / "stopped", data, settings), stop)
    assert resume(tmp_path / "stopped")["step"] == whole["step"]
    models = [load_model(tmp_path / name / "model").state_dict() for name in ("whole", "stopped")]
    assert all(models[0][name].equal(models[1][name]) for name in models[0])


def test_a_student_comes_nearer_to_its_teacher(tmp_path: Path, shards: Shards, tiny_config, teacher: Path) -> None:
    changes = {"stage": "distill_text", "teacher": str(teacher), "steps": 40, "validate_every": 10}
    settings = tiny_config(model={"dropout": 0.0}, train=changes)
    train([shards.folder], tmp_path / "run", settings=settings)
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["event"] == "validation"]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert "bits_per_byte" not in rows[0]  # a divergence is not bits of text


def test_a_run_starts_from_a_model(tmp_path: Path, shards: Shards, tiny_config, teacher: Path) -> None:
    """Without an update that changes anything, the model is the one that it started from."""
    settings = tiny_config(
        model={"dim": 64}, optimizer={"lr": 1e-30, "muon_lr": 1e-30}, train={"start_from": str(teacher), "steps": 1}
    )
    train([shards.folder], tmp_path / "run", settings=settings)
    before, after = load_model(teacher).state_dict(), load_model(tmp_path / "run" / "model").state_dict()
    assert all(before[name].equal(after[name]) for name in before)


def test_what_does_not_suit_is_refused(tmp_path: Path, shards: Shards, text_file: Path, tiny_config, teacher) -> None:
    other = tmp_path / "other"
    train([text_file], other, settings=tiny_config(tokenizer={"kind": "bpe", "vocab_size": 300}))
    for changes, said in (
        ({"stage": "learn"}, 'Unknown stage "learn"'),
        ({"stage": "distill_text"}, "needs a teacher"),
        ({"stage": "distill_text", "teacher": str(other / "model")}, "another tokenizer"),
        ({"start_from": str(other / "model")}, "another tokenizer"),
        ({"start_from": str(tmp_path / "nowhere")}, "nowhere"),
    ):
        with pytest.raises(TinyslmError, match=said):
            train([shards.folder], tmp_path / "run", settings=tiny_config(train=changes))
    longer = tiny_config(model={"context": 32}, train={"stage": "distill_text", "teacher": str(teacher)})
    with pytest.raises(TinyslmError, match="reads 16 tokens, and the student 32"):
        train([shards.folder], tmp_path / "run", settings=longer)
    assert not (tmp_path / "run" / "config.json").exists()


def test_frozen_weights_are_neither_optimized_nor_saved(tmp_path: Path, shards: Shards, tiny_config) -> None:
    from safetensors import safe_open

    from tinyslm.training.checkpoint import Progress, load_checkpoint, save_checkpoint
    from tinyslm.training.optimizers import Optimizers

    run = build(Order(Path(), shards.folder, tiny_config()), World())
    frozen = run.model.model.layers[0].requires_grad_(False)
    optimizers = Optimizers(run.model, run.config.optimizer)
    whole = StepSettings(1, 4, 0.0, torch.float32, lambda step: 1.0)
    accumulate(run.model, run.stage.loss, run.stage.batches.next(run.model), whole)
    before = [parameter.clone() for parameter in frozen.parameters()]
    optimizers.step(1.0)
    assert all(old.equal(new) for old, new in zip(before, frozen.parameters(), strict=True))
    assert not [name for name in optimizers.state() if ".layers.0." in name]
    save_checkpoint(tmp_path / "step-000001", run.model, optimizers, Progress())
    with safe_open(tmp_path / "step-000001" / "model.safetensors", "pt") as file:
        assert file.keys()
        assert not [name for name in file.keys() if ".layers.0." in name]  # noqa: SIM118
    load_checkpoint(tmp_path / "step-000001", run.model, optimizers)


def test_the_help_names_every_stage() -> None:
    described = str(LoopConfig.model_fields["stage"].description)
    assert [name for name in STAGES if name not in described] == []
