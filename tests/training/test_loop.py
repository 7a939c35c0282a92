"""The loop: parts of a batch equal the whole one, repeats are exact, and what is not finite changes nothing."""

import math
from collections.abc import Iterator

import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.loss import IGNORE, loss_sum
from tinyslm.training.config import OptimizerConfig, ScheduleConfig
from tinyslm.training.loop import StepReport, StepSettings, accumulate, scale_and_clip, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.schedule import lr_scale
from tinyslm.training.stage import Batch
from tinyslm.training.stages.pretrain import next_token_loss


def small(**changes) -> Decoder:
    torch.manual_seed(3)
    return Decoder(ModelConfig(**{"vocab_size": 64, "dim": 32, "heads": 2, "depth": 2, "context": 12, **changes}))


def batches(seed: int = 0) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield Batch.of_windows(torch.randint(0, 64, (6, 13), generator=generator))


def settings(steps: int = 4, **changes) -> StepSettings:
    usual = {"micro_batch": 6, "clip": 1.0, "dtype": torch.float32, "lr_scale": lambda step: 1.0}
    return StepSettings(steps=steps, **{**usual, **changes})


def train(model: Decoder, objective=next_token_loss, *, optimizer: str = "adamw", **changes) -> list[StepReport]:
    source, optimizers = batches(), Optimizers(model, OptimizerConfig(name=optimizer))
    return list(train_steps(model, objective, lambda: next(source), optimizers, settings(**changes)))


def low_targets(model: Decoder, batch: Batch):
    """Counts only targets below 20, so that each part of a batch has another weight."""
    targets = batch.targets.clone()
    targets[targets >= 20] = IGNORE
    counted = float((targets != IGNORE).sum())
    loss = loss_sum(model, model.model(batch.inputs).flatten(0, 1), targets.flatten())
    return loss, counted, {"counted": counted / targets.numel()}


@pytest.mark.parametrize("objective", [next_token_loss, low_targets])
@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_the_gradient_of_parts_is_that_of_the_whole_batch(micro_batch: int, objective) -> None:
    whole, parts = small(), small()
    batch = next(batches())
    one = accumulate(whole, objective, batch, settings())
    other = accumulate(parts, objective, batch, settings(micro_batch=micro_batch))
    assert other[0] == pytest.approx(one[0], rel=1e-6)
    assert other[1] == one[1]
    if objective is low_targets:
        assert one[1] < 72
    norms = [scale_and_clip(model, one[1], 0.5) for model in (whole, parts)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    for expected, found in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("objective", [next_token_loss, low_targets])
def test_steps_in_parts_end_with_the_weights_of_whole_steps(objective, optimizer: str) -> None:
    whole, parts = small(), small()
    reports = train(whole, objective, optimizer=optimizer)
    in_parts = train(parts, objective, optimizer=optimizer, micro_batch=2)
    for one, other in zip(reports, in_parts, strict=True):
        assert (other.loss, other.gradient_norm) == pytest.approx((one.loss, one.gradient_norm), rel=1e-3)
        assert (other.weight, other.skipped) == (one.weight, "")
    # Muon's iteration is in bf16, in which a gradient's last bits show; a step moves weights by 0.02.
    atol = {"adamw": 1e-5, "muon": 2e-3}[optimizer]
    for expected, found in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=atol, rtol=1e-3)


def test_clipping_limits_the_common_norm() -> None:
    model = small()
    _, weight, _, _ = accumulate(model, next_token_loss, next(batches()), settings())
    before = scale_and_clip(model, weight, 0.0)
    unclipped = [parameter.grad.clone() for parameter in model.parameters()]
    assert before == pytest.approx(math.sqrt(sum(gradient.square().sum().item() for gradient in unclipped)), rel=1e-5)
    assert scale_and_clip(model, 1.0, before / 4) == pytest.approx(before, rel=1e-5)
    for parameter, gradient in zip(model.parameters(), unclipped, strict=True):
        torch.testing.assert_close(parameter.grad, gradient / 4)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_lowers_the_loss(optimizer: str) -> None:
    batch = next(batches())
    model = small()
    optimizers = Optimizers(model, OptimizerConfig(name=optimizer))
    losses = [r.loss for r in train_steps(model, next_token_loss, lambda: batch, optimizers, settings(30))]
    assert losses[0] == pytest.approx(math.log(64), abs=0.2)
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_run_repeats_bit_for_bit(dtype: torch.dtype) -> None:
    ends = []
    for _ in range(2):
        model = small(dropout=0.2)
        torch.manual_seed(9)
        reports = train(model, optimizer="muon", dtype=dtype, micro_batch=3)
        ends.append((reports, model.state_dict()))
    (reports, expected), (again, found) = ends
    assert reports == again
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def spoiled(how: str, at: set[int]):
    """The loss of pretraining with a loss or gradient that is not finite in some calls."""
    calls = iter(range(1000))

    def objective(model: Decoder, batch: Batch):
        loss, weight, metrics = next_token_loss(model, batch)
        if next(calls) in at:
            parameter = next(model.parameters())
            if how == "gradient":
                loss = loss + (parameter - parameter.detach()).abs().sqrt().sum()  # zero, with an infinite slope
            else:
                loss = loss * float(how)
        return loss, weight, metrics

    return objective


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("how", ["nan", "inf", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_and_is_reported(how: str, optimizer: str) -> None:
    model = small()
    optimizers = Optimizers(model, OptimizerConfig(name=optimizer))
    source = batches()
    steps = train_steps(model, spoiled(how, {1}), lambda: next(source), optimizers, settings(3))
    assert next(steps).skipped == ""
    before = {name: tensor.clone() for name, tensor in {**model.state_dict(), **optimizers.state()}.items()}
    report = next(steps)
    after = {**model.state_dict(), **optimizers.state()}
    assert report.step == 2
    assert report.skipped == ("the gradient is not finite" if how == "gradient" else "the loss is not finite")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert next(steps).skipped == ""
    assert not torch.equal(before["lm_head.weight"], model.lm_head.weight)


def test_three_in_a_row_stop_the_run_with_what_to_try() -> None:
    model = small()
    optimizers, source = Optimizers(model, OptimizerConfig()), batches()
    bad = {1, 2, 4, 5, 7, 8, 9}  # twice two in a row are survived
    steps = train_steps(model, spoiled("nan", bad), lambda: next(source), optimizers, settings(20))
    found = [bool(next(steps).skipped) for _ in range(10)]
    with pytest.raises(TinyslmError, match=r"step 10: the loss is not finite, 3 steps in a row") as caught:
        next(steps)
    assert found == [step in bad for step in range(10)]
    assert "--optimizer.lr" in caught.value.remedy
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_one_bad_part_spoils_the_whole_step() -> None:
    model = small()
    before = model.lm_head.weight.clone()
    (report,) = train(model, spoiled("nan", {1}), steps=1, micro_batch=2)
    assert report.skipped
    assert torch.equal(model.lm_head.weight, before)


@pytest.mark.parametrize(
    ("warmup", "decay", "final", "shares"),
    [
        (0.0, 0.0, 0.0, {0: 1, 5: 1, 9: 1}),
        (0.2, 0.0, 0.0, {0: 0.25, 1: 0.75, 2: 1, 9: 1}),
        (0.2, 0.4, 0.0, {0: 0.25, 2: 1, 5: 1, 6: 0.875, 9: 0.125}),
        (0.0, 1.0, 0.1, {0: 0.955, 9: 0.145}),
        (0.5, 0.5, 0.5, {0: 0.1, 4: 0.9, 5: 0.95, 9: 0.55}),
    ],
)
def test_the_schedule(warmup: float, decay: float, final: float, shares: dict[int, float]) -> None:
    config = ScheduleConfig(warmup=warmup, decay=decay, final=final)
    assert {step: lr_scale((step + 0.5) / 10, config) for step in shares} == pytest.approx(shares)
    middles = [(step + 0.5) / steps for steps in (1, 2, 7) for step in range(steps)]
    assert all(0 < lr_scale(position, config) <= 1 for position in middles)


def test_the_schedule_reaches_the_optimizers() -> None:
    model = small()
    optimizers, source = Optimizers(model, OptimizerConfig(muon_lr=0.02, lr=0.004)), batches()
    shares = [0.5, 1.0, 0.25]
    reports = []
    for report in train_steps(
        model, next_token_loss, lambda: next(source), optimizers, settings(3, lr_scale=lambda step: shares[step])
    ):
        reports.append(report.lr_scale)
        rates = sorted({group["lr"] for part in optimizers.parts for group in part.param_groups})
        assert rates == pytest.approx([0.004 * shares[report.step - 1], 0.02 * shares[report.step - 1]])
    assert reports == shares
