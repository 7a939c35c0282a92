"""Exercise: a stage of training, added by a plugin."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from tinyslm.core.config import build_config
from tinyslm.course.exercises.exercise import Check, Exercise
from tinyslm.data.config import DataConfig
from tinyslm.data.prepare import prepare
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder, new_model
from tinyslm.tokenizer.training import train_tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.stage import Batch, Stage
from tinyslm.training.stages import STAGES
from tinyslm.training.world import World

SHAPE = {"vocab_size": 320, "dim": 32, "depth": 1, "heads": 2, "context": 16}
WEIGHT = 1e-4
LOGITS = 40.0
"""The scale of the logits in the checks: larger than usual, so that the z-loss is measurable."""


@cache
def _stages() -> tuple[Stage, Stage]:
    """The learner's stage and pretraining, on the same text."""
    Path("text.txt").write_text("\n\n".join(f"{n} and {n * n}, or {n + 7}" for n in range(300)), encoding="utf-8")
    data = Path("shards")
    prepare(["text.txt"], data, tokenizer=train_tokenizer([], kind="byte"), config=DataConfig(workers=1))
    settings = {"model": SHAPE, "train": {"batch": 2, "steps": 1}}
    config = build_config(RunConfig, settings, origin="the exercise")
    return STAGES["z_loss"](data, config, World()), STAGES["pretrain"](data, config, World())


@cache
def _model() -> Decoder:
    torch.manual_seed(0)
    model = new_model(build_config(ModelConfig, SHAPE, origin="the exercise"))
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_()
        weight = model.model.embed_tokens.weight if model.config.tied else model.lm_head.weight
        weight.normal_(std=LOGITS / 32)
    return model


def _batch() -> Batch:
    torch.manual_seed(0)
    return Batch.of_windows(torch.randint(256, (4, 17)))


def _z() -> torch.Tensor:
    """The logarithm of the sum of exponentials at each place, `[batch, seq]`."""
    logits_btv: torch.Tensor = _model()(_batch().inputs)
    return logits_btv.logsumexp(-1)


def _opens(_module: Any) -> str:
    if "z_loss" not in STAGES:
        return 'The file adds no stage "z_loss".'
    stage, plain = _stages()
    return "" if stage.held_out_tokens == plain.held_out_tokens else "It does not read the text as pretraining does."


def _value(_module: Any) -> str:
    stage, plain = _stages()
    with torch.no_grad():
        found, expected = (one.loss(_model(), _batch())[0] for one in (stage, plain))
        added = WEIGHT * (_z() ** 2).sum()
    if abs(float(found - expected - added)) < 1e-3 * float(added):
        return ""
    return (
        f"Beyond the cross-entropy, the sum of the losses of 64 tokens has {float(found - expected):.4f} more; "
        f"{WEIGHT} * z ** 2 of all tokens is {float(added):.4f}."
    )


def _weight(_module: Any) -> str:
    weight = _stages()[0].loss(_model(), _batch())[1]
    return "" if weight == 64 else f"The weight of a batch of 4 times 16 targets is {weight}, not 64."


def _parts(_module: Any) -> str:
    stage = _stages()[0]
    with torch.no_grad():
        whole = float(stage.loss(_model(), _batch())[0])
        parts = sum(float(stage.loss(_model(), part)[0]) for part in _batch().split(1))
    if abs(whole - parts) < 1e-3 * abs(whole):
        return ""
    return f"The loss of the batch is {whole:.3f}, and of its four rows {parts:.3f} together: give sums, not means."


def _gradient(_module: Any) -> str:
    stage, plain = _stages()
    gradients = []
    for one in (stage, plain):
        _model().zero_grad()
        one.loss(_model(), _batch())[0].backward()
        gradients.append(next(_model().parameters()).grad)
    _model().zero_grad()
    (WEIGHT * (_z() ** 2).sum()).backward()
    added = next(_model().parameters()).grad
    assert gradients[0] is not None
    assert gradients[1] is not None
    assert added is not None
    if float((gradients[0] - gradients[1] - added).norm()) < 1e-2 * float(added.norm()):
        return ""
    return (
        "The gradient is not that of the cross-entropy plus z-loss: is z computed with gradients, from the same logits?"
    )


def _metric(_module: Any) -> str:
    metrics = _stages()[0].loss(_model(), _batch())[2]
    expected = float(_z().mean().detach())
    found = metrics.get("z")
    if found is not None and abs(float(found) - expected) < 1e-3 * abs(expected):
        return ""
    return f'The metrics are {dict(metrics)}; "z" should be the mean of z, here {expected:.3f}.'


def _validation(_module: Any) -> str:
    stage, plain = (one.validate(_model(), torch.float32, 500) for one in _stages())
    return "" if abs(stage - plain) < 1e-5 else "Validation gives a different loss from pretraining."


STAGE = Exercise(
    title="A stage of training",
    about="A custom loss in the existing training loop, with its checkpoints, plans and reports.",
    task=(
        "Softmax does not change if all logits grow by the same amount, so nothing keeps them small, and in 16-bit "
        "formats large logits lose precision. The z-loss (PaLM, Chowdhery et al., 2022) adds 0.0001 * z ** 2 to the "
        "loss of each token, where z is the logarithm of the sum of the exponentials of its logits.",
        "Write a stage “z_loss” that pretrains with it. loss returns three things: the sum of the losses over all "
        "tokens of the batch, their number, and metrics for the log; give it the mean of z as “z”.",
        "Return sums, not means, so that a batch gives the same gradient when it is split into parts or over several "
        "machines. Validation stays as it is: otherwise two models could not be compared.",
    ),
    hints=(
        "model(batch.inputs) returns logits of shape [batch, seq, vocabulary]; z is their logsumexp(-1).",
        "F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction='sum') is the sum of the other "
        "losses.",
        "A metric is a number: z.mean().item().",
    ),
    start="exercises/stage.py",
    checks=(
        Check("The plugin adds a stage “z_loss” that reads the text as pretraining does.", _opens),
        Check("The loss has 0.0001 * z ** 2 more for each token.", _value),
        Check("The weight is the number of tokens.", _weight),
        Check("The losses of parts of a batch add up.", _parts),
        Check("The gradient has both parts.", _gradient),
        Check("The log gets the mean of z.", _metric),
        Check("Validation is that of pretraining.", _validation),
    ),
    then=("tinyslm train TEXT --train.stage z_loss --plugin FILE --minutes 5 --out runs/z-loss",),
)
