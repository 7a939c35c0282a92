"""Losses and gradients of the stages equal those of TRL's trainers on the same batch.

Differences, all on purpose:

- TRL learns the line end that ChatML writes after an end of turn; here, an answer ends with its end of turn. The
  batches below contain the same ids for both.
- TRL's `sft` part of a preference loss is a mean over all chosen tokens of the batch; `rpo_alpha` takes the mean of
  each answer, as in the paper (arXiv 2404.19733), so that the gradient does not depend on how a batch is divided. They
  are equal if all chosen answers have the same length.
- TRL's GKD trainer does not pass its temperature to its loss, which is why the loss function is called here. Neither
  multiplies the loss by the square of the temperature, as Hinton et al. (2015) suggest.
- TRL multiplies the summed log-ratios with beta to log rewards, whatever the loss; here, rewards are those that the
  loss compares.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.experimental.gkd import GKDTrainer

from tinyslm.core.config import build_config
from tinyslm.data.conversations import Conversation
from tinyslm.data.examples import Example, prepare_examples
from tinyslm.data.preferences import pair_of, prepare_preferences
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, save_model
from tinyslm.tokenizer.chat import CHATML
from tinyslm.tokenizer.training import train_tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.stage import Batch, Stage
from tinyslm.training.stages import STAGES
from tinyslm.training.stages.sft import batch_of
from tinyslm.training.world import World

ROWS = [("Sky?", "blue, mostly", "green"), ("2 + 2?", "4", "5, I think"), ("Coal?", "black", "white as snow")]
SHAPE = {"dim": 32, "heads": 4, "kv_heads": 2, "depth": 2, "context": 64, "init_std": 0.2}
TRAINING = {"bf16": False, "use_cpu": True, "report_to": "none", "gradient_checkpointing": False}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Two models with one tokenizer: "base", and the "model" that is trained."""
    tokenizer = train_tokenizer([], kind="byte").with_template(CHATML)
    found = {}
    for seed, name in enumerate(("base", "model")):
        torch.manual_seed(seed)
        found[name] = tmp_path_factory.mktemp(name) / "folder"
        model = Decoder(ModelConfig(family="llama", vocab_size=tokenizer.vocab_size, **SHAPE))
        save_model(model, found[name], tokenizer)
    return found


@pytest.fixture(scope="module")
def pairs(folders) -> list[tuple[Example, Example]]:
    return [pair_of(conversation, load_tokenizer(folders["base"])) for conversation in conversations()]


def conversations() -> list[Conversation]:
    return [
        Conversation(
            [{"role": "user", "content": asked}, {"role": "assistant", "content": chosen}],
            "",
            rejected={"role": "assistant", "content": rejected},
        )
        for asked, chosen, rejected in ROWS
    ]


def stage_of(name: str, data: Path, folders, teacher: Path | str = "", **settings) -> Stage:
    train = {
        "stage": name,
        "teacher": str(teacher),
        "start_from": str(folders["base"]),
        "steps": 1,
        "batch": 1,
        "device": "cpu",
    }
    train |= {"dtype": "fp32", "row_tokens": 64}
    model = {"vocab_size": load_tokenizer(folders["base"]).vocab_size, **SHAPE}
    return STAGES[name](data, build_config(RunConfig, {"train": train, "model": model, **settings}), World())


def gradients(stage: Stage, folders, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    model = load_model(folders["model"])
    loss_sum, weight, _ = stage.loss(model, batch)
    (loss_sum / weight).backward()
    return (loss_sum / weight).item(), {name: one.grad for name, one in model.named_parameters()}


def check(ours: tuple[float, dict[str, torch.Tensor]], loss: torch.Tensor, model: torch.nn.Module) -> None:
    loss.backward()
    assert ours[0] == pytest.approx(loss.item(), rel=1e-4)
    theirs = {name: one.grad for name, one in model.named_parameters()}
    assert theirs.keys() == ours[1].keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[1][name], gradient, atol=1e-4, rtol=1e-4)


def parts(example: Example) -> tuple[list[int], list[int]]:
    """Prompt and answer, without what follows the answer's end."""
    places = np.flatnonzero(example.learned)
    return example.ids[: places[0]].tolist(), example.ids[places[0] : places[-1] + 1].tolist()


@pytest.mark.parametrize("rpo_alpha", [0.0, 0.5])
@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "sigmoid_norm"])
def test_dpo(loss: str, rpo_alpha: float, folders, pairs, tmp_path: Path) -> None:
    pairs = pairs[:1] if rpo_alpha else pairs
    tokenizer, beta = load_tokenizer(folders["base"]), 0.3
    prepare_preferences(iter(conversations()), tmp_path / "data", tokenizer, context=64, valid=iter(conversations()))
    stage = stage_of("dpo", tmp_path / "data", folders, dpo={"loss": loss, "beta": beta, "rpo_alpha": rpo_alpha})
    packed = [list(pairs[0]), [one for pair in pairs[1:] for one in pair]]
    batch = stage.batches.reference.batch(load_model(folders["model"]), batch_of(list(filter(None, packed))))
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(folders["model"]),
        AutoModelForCausalLM.from_pretrained(folders["base"]),
        args=DPOConfig(
            output_dir=str(tmp_path / "trl"),
            loss_type=[loss, "sft"] if rpo_alpha else [loss],
            loss_weights=[1.0, rpo_alpha] if rpo_alpha else None,
            beta=beta,
            **TRAINING,
        ),
        train_dataset=Dataset.from_list(
            [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in ROWS]
        ),
        processing_class=AutoTokenizer.from_pretrained(folders["base"]),
    )
    answers = [(*parts(chosen), parts(rejected)[1]) for chosen, rejected in pairs]
    rows = [dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), one, strict=True)) for one in answers]
    trainer.model.train()
    found = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    check(gradients(stage, folders, batch), found, trainer.model)
    _, _, metrics = stage.loss(load_model(folders["model"]), batch)
    if loss == "sigmoid":
        for name in metrics:
            assert metrics[name] == pytest.approx(trainer._metrics["train"][name][0], abs=1e-4)


def padded(examples: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels of one example a row."""
    ids = [torch.tensor([one for part in parts(example) for one in part]) for example in examples]
    labels = [torch.tensor([-100] * len(parts(example)[0]) + parts(example)[1]) for example in examples]
    return tuple(
        torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
        for rows, value in ((ids, 0), (labels, -100))
    )


@pytest.fixture
def talks(folders, tmp_path: Path) -> Path:
    tokenizer = load_tokenizer(folders["base"])
    return prepare_examples(
        iter(conversations()), tmp_path / "talks", tokenizer, context=64, valid=iter(conversations())
    ).folder


@pytest.mark.parametrize("loss", ["cross_entropy", "dft"])
def test_sft(loss: str, folders, pairs, talks: Path, tmp_path: Path) -> None:
    chosen = [one for one, _ in pairs]
    ours = gradients(stage_of("sft", talks, folders, sft={"loss": loss}), folders, batch_of([chosen[:1], chosen[1:]]))
    ids, labels = padded(chosen)
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(folders["model"]),
        args=SFTConfig(
            output_dir=str(tmp_path / "trl"), loss_type={"cross_entropy": "nll"}.get(loss, loss), **TRAINING
        ),
        train_dataset=Dataset.from_list([{"input_ids": ids[0].tolist(), "labels": labels[0].tolist()}]),
        processing_class=AutoTokenizer.from_pretrained(folders["base"]),
    )
    rows = [
        {"input_ids": [*parts(one)[0], *parts(one)[1]], "labels": [-100] * len(parts(one)[0]) + parts(one)[1]}
        for one in chosen
    ]
    trainer.model.train()
    check(ours, trainer.compute_loss(trainer.model, trainer.data_collator(rows)), trainer.model)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_distillation(beta: float, temperature: float, folders, pairs, talks: Path) -> None:
    chosen = [one for one, _ in pairs]
    stage = stage_of(
        "distill_answers", talks, folders, teacher=folders["base"], distill={"beta": beta, "temperature": temperature}
    )
    ours = gradients(stage, folders, batch_of([chosen[:1], chosen[1:]]))
    ids, labels = padded(chosen)
    model, teacher = (AutoModelForCausalLM.from_pretrained(folders[name]) for name in ("model", "base"))
    with torch.no_grad():
        target = teacher(ids).logits[:, :-1]
    loss = GKDTrainer.generalized_jsd_loss(
        model(ids).logits[:, :-1], target, labels[:, 1:], beta=beta, temperature=temperature
    )
    check(ours, loss, model)
