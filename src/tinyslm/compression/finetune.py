"""Repairing a quantized model: training that sees the rounding, towards what the original predicts.

The student computes with rounded weights. Behind each of its matrices stands a latent one that is not rounded, and its
scales; gradients pass through the rounding as if it were not there (Bengio et al., 2013), and scales learn as in
"Learned step size quantization" (Esser et al., 2020). The student is trained to give every next token the probability
that the original gives it (Hinton et al., 2015), so it learns to be the original, not to be something else.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tinyslm.compression.rounding import RANGE, grouped, nearest, stored_shape
from tinyslm.compression.writing import State
from tinyslm.data.documents import Notify, silent
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import state_tensors
from tinyslm.model.packed import PackedTensor, pack
from tinyslm.training.config import OptimizerConfig
from tinyslm.training.interrupt import stop_requests
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.stages.distill_text import DistillText

CHECK_TOKENS = 8_192
"""Tokens of text on which students are compared."""
LOOKS = 10
"""How often, in the whole time, the student is compared with the best one so far."""


@dataclass(frozen=True)
class Repair:
    """How long to train, by steps or (where these are 0) by time, and how: learning rates and precision.

    muon_lr: of the matrices in blocks; lr: of all other weights; scale_lr: of scales, as a share of each.
    tokens: computed at once.
    """

    seconds: float
    steps: int = 0
    muon_lr: float = 0.0002
    lr: float = 0.00005
    scale_lr: float = 0.0003
    warmup: float = 0.05
    tokens: int = 4096
    dtype: torch.dtype = torch.bfloat16


@dataclass(frozen=True)
class Finetuning:
    """Updates made, and the mean KL to the original before and after, in nats, on a part of the training text.

    interrupted: it was ended early.
    """

    steps: int
    kl_before: float
    kl_after: float
    interrupted: bool


@dataclass(frozen=True)
class Repaired:
    """The best weights that were seen, and how it went."""

    state: State
    finetuning: Finetuning


def repair(
    stage: DistillText,
    start: State,
    settings: Repair,
    *,
    progress: Callable[[float, int], None] = silent,
    notify: Notify = silent,
) -> Repaired:
    """Train from `start` on; what comes back is the best that was seen, at worst what was given.

    stage: its teacher is the original. progress: gets the share of the time that is over, and the tokens read. The
    first Ctrl-C ends the training early.
    """
    student = copy.deepcopy(stage.teacher).requires_grad_(True)
    weights = RoundedWeights(student, start.packed, settings)
    before = least = stage.validate(student, settings.dtype, CHECK_TOKENS)
    best, steps, seen, looks = weights.take(), 0, 0, 0
    clock = _Clock(settings)
    loop = StepSettings(
        steps=settings.steps or 2**40,
        micro_batch=max(1, settings.tokens // stage.context),
        clip=1.0,
        dtype=settings.dtype,
        lr_scale=lambda step: _share(clock.position(step), settings.warmup),
    )
    with stop_requests() as stop:
        for report in train_steps(student, stage.loss, lambda: stage.batches.next(student), weights, loop):
            steps, seen = report.step, seen + int(report.weight)
            position = 1.0 if stop.requested else clock.position(steps)
            progress(position, seen)
            if position >= (looks + 1) / LOOKS:
                looks = int(position * LOOKS)
                now = stage.validate(student, settings.dtype, CHECK_TOKENS)
                notify(f"Step {steps:,}: KL {now:.4f} to the original ({before:.4f} before).")
                if now < least:
                    least, best = now, weights.take()
            if position >= 1:
                break
    return Repaired(best, Finetuning(steps, before, least, stop.requested))


class RoundedWeights(Optimizers):
    """The optimizers of a student whose matrices are rounded: they step what stands behind its weights."""

    def __init__(self, student: Decoder, packed: Mapping[str, PackedTensor], settings: Repair) -> None:
        latent = copy.deepcopy(student)
        config = OptimizerConfig(muon_lr=settings.muon_lr, lr=settings.lr, weight_decay=0.0)
        super().__init__(latent, config)
        self._weights = dict(student.named_parameters())
        self._latents = dict(latent.named_parameters())
        self._student = student
        self._rounded = {name: _Rounded(matrix, self._latents[name].data) for name, matrix in packed.items()}
        turns = [rounded.log_turn for rounded in self._rounded.values()]
        scales = torch.optim.AdamW(turns, lr=settings.scale_lr, betas=(0.9, 0.95), weight_decay=0.0)
        self.parts.append(scales)
        self._groups += [(group, group["lr"]) for group in scales.param_groups]
        self._push()

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Update what stands behind the weights, and round it anew."""
        for name, latent in self._latents.items():
            gradient, self._weights[name].grad = self._weights[name].grad, None
            assert gradient is not None, name
            latent.grad = self._rounded[name].pull(latent, gradient) if name in self._rounded else gradient
        super().step(scale)
        self._push()

    def drop_gradients(self) -> None:
        """Forget the gradients without a step."""
        for weight in self._weights.values():
            weight.grad = None

    def take(self) -> State:
        """The weights as they are, in copies."""
        packed = {name: rounded.pack(self._latents[name]) for name, rounded in self._rounded.items()}
        others = {n: t.detach().clone() for n, t in state_tensors(self._student).items() if n not in packed}
        return State(packed, others)

    @torch.no_grad()
    def _push(self) -> None:
        """Round what stands behind the weights into the student."""
        for name, weight in self._weights.items():
            latent = self._latents[name]
            weight.copy_(self._rounded[name].value(latent) if name in self._rounded else latent)


class _Rounded:
    """How one matrix is rounded: its scales, each as what it was at first times exp(log_turn)."""

    def __init__(self, start: PackedTensor, latent_oi: Tensor) -> None:
        """`latent_oi` is moved to where it is rounded to `start`, and stays within that as near as it can."""
        self.layout = start.layout
        self._first_on1 = start.scale.float().view(len(start.scale), -1, 1)
        self.log_turn = torch.nn.Parameter(torch.zeros_like(self._first_on1))
        dense_onw = grouped(start.dense(), self.layout)
        room_on1 = 0.49 * self._first_on1.abs()
        moved_onw = (grouped(latent_oi, self.layout) - dense_onw).clamp_(-room_on1, room_on1).add_(dense_onw)
        latent_oi.copy_(moved_onw.flatten(1))

    def value(self, latent_oi: Tensor) -> Tensor:
        """The rounded matrix."""
        scale_on1 = self._scale()
        return nearest(grouped(latent_oi, self.layout), scale_on1, self.layout.bits).mul_(scale_on1).flatten(1)

    def pull(self, latent_oi: Tensor, gradient_oi: Tensor) -> Tensor:
        """The gradient of the latent matrix; that of the scales is put in its place.

        With v = w / s and its code q: d(q s)/dw is 1 where v is inside the range and 0 outside; d(q s)/ds is q - v
        inside and q outside.
        """
        scale_on1, gradient_onw = self._scale(), grouped(gradient_oi, self.layout)
        lowest, highest = RANGE[self.layout.bits]
        v_onw = grouped(latent_oi, self.layout) / scale_on1
        inside_onw = (v_onw > lowest - 0.5) & (v_onw < highest + 0.5)
        slope_onw = nearest(v_onw, torch.ones(()), self.layout.bits).sub_(v_onw.mul_(inside_onw))
        self.log_turn.grad = slope_onw.mul_(gradient_onw).sum(-1, keepdim=True).mul_(scale_on1)
        return (gradient_onw * inside_onw).flatten(1)

    def pack(self, latent_oi: Tensor) -> PackedTensor:
        """The rounded matrix as it is stored."""
        scale_on1 = self._scale()
        codes_oi = nearest(grouped(latent_oi.detach(), self.layout), scale_on1, self.layout.bits).flatten(1)
        return pack(codes_oi, stored_shape(scale_on1.squeeze(-1).bfloat16(), self.layout), self.layout.bits)

    def _scale(self) -> Tensor:
        """As bf16 keeps it."""
        return (self._first_on1 * self.log_turn.detach().exp()).bfloat16().float()


class _Clock:
    """How much of the training is over, as a share, by steps or by time."""

    def __init__(self, settings: Repair) -> None:
        self._settings = settings
        self._start = time.monotonic()

    def position(self, step: int) -> float:
        """After (or in the middle of) so many steps."""
        if self._settings.steps:
            return step / self._settings.steps
        return min(1.0, (time.monotonic() - self._start) / self._settings.seconds)


def _share(position: float, warmup: float) -> float:
    """Of the peak learning rates: up in a straight line, then down to nothing."""
    return min((position + 0.01) / warmup, 1 - position) if position < warmup else 1 - position
