"""Fine-tuning with rounded weights: it comes nearer to the original, and what it leaves is what it computed with."""

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tinyslm.compression.finetune import Repair, RoundedWeights, _Rounded, repair
from tinyslm.compression.judging import divergence
from tinyslm.compression.report import dense
from tinyslm.compression.rounding import round_to_nearest
from tinyslm.compression.schemes import plan
from tinyslm.compression.writing import State
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, state_tensors
from tinyslm.training.stage import Batch
from tinyslm.training.stage_config import DistillConfig
from tinyslm.training.stages.distill_text import DistillText

FP32 = Repair(seconds=0, steps=30, muon_lr=0.001, lr=0.001, scale_lr=0.001, dtype=torch.float32)


@pytest.fixture
def model(original: Path) -> Decoder:
    return load_model(original)


@pytest.fixture
def start(model: Decoder) -> State:
    with torch.no_grad():
        tensors = state_tensors(model)
        layouts = plan(model, "int4", 32).layouts
        return State({name: round_to_nearest(tensors.pop(name), layout) for name, layout in layouts.items()}, tensors)


def windows(count: int) -> Tensor:
    return torch.randint(320, (count, 33), generator=torch.Generator().manual_seed(count))


class RandomText(DistillText):
    """Distillation on random tokens; held out are some windows of them."""

    def __init__(self, teacher: Decoder, held_out: int) -> None:
        self.settings = DistillConfig()
        self.teacher = teacher.eval().requires_grad_(False)
        self.context, self.batches = 32, self
        self._held_out_windows, self._generator = windows(held_out), torch.Generator().manual_seed(0)

    def next(self, _model: Decoder) -> Batch:
        return Batch.of_windows(torch.randint(320, (8, 33), generator=self._generator))

    def _windows(self, _model: Decoder, _tokens: int) -> Tensor:
        return self._held_out_windows


def test_it_comes_nearer_to_the_original_and_says_how_near(model, start):
    said: list[str] = []
    told: list[float] = []
    repaired = repair(
        RandomText(model, 6), start, FP32, progress=lambda share, _: told.append(share), notify=said.append
    )
    found = repaired.finetuning
    assert (found.steps, found.interrupted) == (30, False)
    assert found.kl_after < 0.95 * found.kl_before
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(said) == 10
    kl = divergence(model, dense(model, repaired.state), windows(6))
    assert kl == pytest.approx(found.kl_after, rel=1e-4)
    unseen = windows(7)
    assert divergence(model, dense(model, repaired.state), unseen) < divergence(model, dense(model, start), unseen)


def test_the_layouts_and_the_original_stay(model, start):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    repaired = repair(RandomText(model, 4), start, FP32)
    assert {name: matrix.layout for name, matrix in repaired.state.packed.items()} == {
        name: matrix.layout for name, matrix in start.packed.items()
    }
    assert repaired.state.others.keys() == start.others.keys()
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_training_that_only_harms_gives_back_what_was_given(model, start):
    wild = Repair(seconds=0, steps=10, muon_lr=1.0, lr=1.0, scale_lr=1.0, dtype=torch.float32)
    repaired = repair(RandomText(model, 4), start, wild)
    assert repaired.finetuning.kl_after == repaired.finetuning.kl_before
    assert all(matrix.dense().equal(start.packed[name].dense()) for name, matrix in repaired.state.packed.items())


def test_a_request_to_stop_ends_it_after_the_step_with_the_best_so_far(model, start):
    def ask(share: float, _tokens: int) -> None:
        if 0.5 <= share < 0.55:
            os.kill(os.getpid(), signal.SIGINT)

    found = repair(RandomText(model, 6), start, FP32, progress=ask).finetuning
    assert found.interrupted
    assert 15 <= found.steps < 20
    assert found.kl_after < found.kl_before


def test_it_ends_on_time(model, start):
    timed = Repair(seconds=0.5, dtype=torch.float32)
    found = repair(RandomText(model, 4), start, timed).finetuning
    assert found.steps >= 1
    assert not found.interrupted


def test_the_student_begins_as_the_model_that_was_given(model, start):
    student = dense(model, start)
    weights = RoundedWeights(student, start.packed, FP32)
    for name, parameter in student.named_parameters():
        if name in start.packed:
            assert parameter.equal(start.packed[name].dense())
    taken = weights.take()
    assert all(taken.packed[name].codes.equal(matrix.codes) for name, matrix in start.packed.items())


def test_gradients_of_scales_are_those_of_the_formula(model, start):
    """With the codes fixed, the loss as a function of one scale has the slope that `pull` gives (q - v inside: 0)."""
    matrix = start.packed["model.layers.0.mlp.up_proj.weight"]
    latent = matrix.dense()
    rounded = _Rounded(matrix, latent)
    gradient = torch.randn(matrix.shape)
    inside = rounded.pull(latent, gradient)
    assert rounded.log_turn.grad is not None
    # Values on their codes lose nothing by a change of the scale to first order; the latent gradient passes through.
    assert inside.equal(gradient)
    assert rounded.log_turn.grad.abs().max() < 1e-4
    latent.mul_(100)  # now all but zeros are cut off: the value moves with the scale
    rounded.pull(latent, gradient)
    scale = matrix.scale.float().unsqueeze(-1)
    codes = (latent.view(len(latent), -1, 32) / scale).round().clamp(-8, 7)
    outside = (latent.view(len(latent), -1, 32) / scale).abs() > 9
    expected = ((codes * gradient.view(codes.shape)) * outside).sum(-1, keepdim=True) * scale
    assert torch.allclose(rounded.log_turn.grad, expected, rtol=1e-3, atol=1e-3)
