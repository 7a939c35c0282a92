"""The compiled kernels against plain PyTorch in fp64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tinyslm.hardware.compiling import NATIVE, NotAvailable, compiler
from tinyslm.model.kernels import library, orthogonal
from tinyslm.model.kernels.attention import KernelAttention
from tinyslm.model.kernels.gate import KernelGate
from tinyslm.model.kernels.heads import KernelHeads
from tinyslm.model.kernels.loss import turn_into_gradients
from tinyslm.model.kernels.norm import KernelNorm
from tinyslm.model.kernels.update import apply, follow
from tinyslm.training.muon import QUINTIC

NARROW, WIDE = torch.bfloat16, torch.float32
COMPILED = {
    "bf16": (NARROW, NATIVE),  # imitated by processors that do not have it
    "fp32": (WIDE, NATIVE),
    "fp32, any processor": (WIDE, ()),
}


def has_compiler() -> bool:
    try:
        return bool(compiler())
    except NotAvailable:
        return False


pytestmark = pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")


@pytest.fixture(params=COMPILED.values(), ids=COMPILED)
def numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """What kernels compute with, fast or not; they are compiled for one processor or another."""
    numbers, processor = request.param
    compiled = library.load(numbers, processor)
    monkeypatch.setattr(library, "kernels", lambda wanted: compiled if wanted == numbers else None)
    return numbers


def error(numbers: torch.dtype) -> float:
    """How far results may be off: half a step of bf16 is 0.002 of a value, and they are rounded once or twice."""
    return 0.004 if numbers == NARROW else 2e-6


def off(found: Tensor, expected: Tensor) -> float:
    """The size of the difference, as a share of what is expected."""
    assert found.shape == expected.shape
    return ((found.double() - expected).norm() / expected.norm()).item()


def exact(x: Tensor) -> Tensor:
    """The same numbers in fp64."""
    return x.detach().double().requires_grad_()


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(3)


@pytest.mark.parametrize(
    ("batch", "heads", "groups", "length", "head_dim"),
    [
        *[(16, 6, 6, 256, 64), (12, 4, 4, 64, 32), (2, 6, 6, 512, 64), (1, 4, 1, 1024, 64)],  # as in practice
        *[(2, 4, 2, 37, 32), (1, 2, 1, 130, 48), (3, 1, 1, 1, 16), (1, 2, 2, 31, 128), (1, 3, 3, 33, 16)],
    ],
)
def test_attention(numbers: torch.dtype, batch: int, heads: int, groups: int, length: int, head_dim: int) -> None:
    # as projections lie: [b, t, h, k]
    rough = [
        torch.randn(batch, length, count, head_dim).to(numbers).transpose(1, 2).requires_grad_()
        for count in (heads, groups, groups)
    ]
    precise = [exact(x) for x in rough]
    y = KernelAttention.apply(*rough, head_dim**-0.5)
    q, k, v = precise[0], *(x.repeat_interleave(heads // groups, 1) for x in precise[1:])
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    expected = (q @ k.transpose(-1, -2) * head_dim**-0.5).masked_fill(future, float("-inf")).softmax(-1) @ v
    assert off(y, expected) < error(numbers)
    towards = torch.randn_like(y)
    y.backward(towards)
    expected.backward(towards.double())
    for found, wanted in zip(rough, precise, strict=True):
        if length > 1 or found is rough[2]:  # one token has nothing to choose between
            assert off(found.grad, wanted.grad) < 2 * error(numbers)
        else:
            assert found.grad.abs().max() < 0.05


def test_attention_with_scores_far_apart(numbers: torch.dtype) -> None:
    """The largest is taken off before e is raised to it."""
    q, k, v = (torch.randn(1, 1, 64, 16).to(numbers) * size for size in (60, 60, 1))
    y = KernelAttention.apply(q, k, v, 1.0)
    future = torch.ones(64, 64, dtype=torch.bool).triu(1)
    scores = (q.double() @ k.double().transpose(-1, -2)).masked_fill(future, float("-inf"))
    assert off(y, scores.softmax(-1) @ v.double()) < error(numbers)


def test_attention_does_not_depend_on_the_number_of_threads(
    numbers: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = (torch.randn(3, 4, 100, 32).to(numbers).requires_grad_() for _ in range(3))
    found = []
    for count in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        y = KernelAttention.apply(q, k, v, 0.2)
        found.append((y, *torch.autograd.grad(y.float().square().sum(), (q, k, v))))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@pytest.mark.parametrize("shape", [(3, 70, 96), (1, 16), (200, 384)])
def test_norm(numbers: torch.dtype, shape: tuple[int, ...]) -> None:
    x, weight = torch.randn(shape).requires_grad_(), (torch.rand(shape[-1]) + 0.5).requires_grad_()
    same_x, same_weight = exact(x), exact(weight)
    with torch.autocast("cpu", numbers, enabled=numbers != WIDE):
        y = KernelNorm.apply(x, weight, 1e-6)
    expected = F.rms_norm(same_x, shape[-1:], same_weight, 1e-6)
    towards = torch.randn(shape).to(numbers)
    y.backward(towards)
    expected.backward(towards.double())
    assert y.dtype == numbers
    assert off(y, expected) < error(numbers)
    assert off(x.grad, same_x.grad) < 1e-5
    assert off(weight.grad, same_weight.grad) < 1e-5


@pytest.mark.parametrize("normed", [True, False])
def test_heads(numbers: torch.dtype, normed: bool) -> None:
    x, weight = torch.randn(2, 19, 3, 64).to(numbers).requires_grad_(), (torch.rand(64) + 0.5).requires_grad_()
    same_x, same_weight = exact(x), exact(weight)
    angles = torch.randn(1, 19, 1, 32)
    cos, sin = torch.cat([angles.cos()] * 2, -1), torch.cat([-angles.sin(), angles.sin()], -1)
    y = KernelHeads.apply(x, weight if normed else None, cos, sin, 1e-6)
    z = F.rms_norm(same_x, (64,), same_weight, 1e-6) if normed else same_x
    expected = z * cos + torch.cat(z.chunk(2, -1)[::-1], -1) * sin
    towards = torch.randn_like(y)
    y.backward(towards)
    expected.backward(towards.double())
    assert off(y, expected) < error(numbers)
    assert off(x.grad, same_x.grad) < error(numbers)
    if normed:
        assert off(weight.grad, same_weight.grad) < 1e-5


def test_gate(numbers: torch.dtype) -> None:
    gates, ups = ((size * torch.randn(64, 96)).to(numbers).requires_grad_() for size in (5, 1))
    same_gates, same_ups = exact(gates), exact(ups)
    y, expected = KernelGate.apply(gates, ups), F.silu(same_gates) * same_ups
    towards = torch.randn_like(y)
    y.backward(towards)
    expected.backward(towards.double())
    assert off(y, expected) < error(numbers)
    assert off(gates.grad, same_gates.grad) < error(numbers)
    assert off(ups.grad, same_ups.grad) < error(numbers)


@pytest.mark.parametrize("vocab_size", [2, 16, 77, 4096])
def test_cross_entropy(numbers: torch.dtype, vocab_size: int) -> None:
    logits = (4 * torch.randn(21, vocab_size)).to(numbers)
    precise, targets = exact(logits), torch.randint(0, vocab_size, (21,))
    targets[3] = -100
    expected = F.cross_entropy(precise, targets, reduction="none")
    expected.sum().backward()
    losses = turn_into_gradients(logits, targets)
    assert off(losses, expected.detach()) < 1e-5
    assert off(logits, precise.grad) < error(numbers)
    assert not logits[3].any()


@pytest.mark.parametrize("shape", [(3, 5), (64, 48), (300, 200)])
def test_updates(numbers: torch.dtype, shape: tuple[int, int]) -> None:
    gradient, momentum, weight = (torch.randn(shape) for _ in range(3))
    expected_momentum = 0.9 * momentum.double() + 0.1 * gradient.double()
    expected = 0.9 * expected_momentum + 0.1 * gradient.double()
    direction = torch.empty(shape, dtype=numbers)
    follow(gradient, momentum, direction, 0.9)
    assert off(momentum, expected_momentum) < 1e-6
    assert off(direction, expected) < error(numbers)
    wanted = 0.99 * weight.double() - 0.02 * direction.double()
    apply(weight, direction, 0.99, 0.02)
    assert off(weight, wanted) < 1e-6


@pytest.mark.parametrize("shape", [(2, 16, 16), (5, 96, 32), (2, 48, 208), (3, 80, 80)])
@pytest.mark.parametrize("scale", [1e-4, 1.0])
def test_matrices_made_orthogonal(numbers: torch.dtype, shape: tuple[int, int, int], scale: float) -> None:
    matrices = scale * torch.randn(shape)
    directions = matrices.to(numbers)
    assert orthogonal.suits(directions) == (len(directions) >= torch.get_num_threads())
    x = exact(directions)
    x = x / x.norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    # Each product is rounded, and the next ones make more of it.
    assert off(orthogonal.iterate(directions, 5, QUINTIC), x.detach()) < (0.03 if numbers == NARROW else 1e-5)
    assert not orthogonal.iterate(torch.zeros(shape, dtype=numbers), 5, QUINTIC).any()
    assert not orthogonal.suits(directions[:, :, 1:])
    assert not orthogonal.suits(matrices.to(NARROW if numbers == WIDE else WIDE))
