"""The hand-written forward and backward passes against plain PyTorch in higher precision, with kernels and without."""

from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

from tinyslm.model.causal import causal_attention
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder, shaped
from tinyslm.model.kernels import library
from tinyslm.model.loss import IGNORE, log_probs, loss_sum, token_losses
from tinyslm.model.norm import RMSNorm
from tinyslm.model.rotary import Rotary, apply_rotary


@pytest.fixture(autouse=True, params=["kernels", "no kernels"])
def with_and_without_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no kernels":
        monkeypatch.setattr(library, "kernels", lambda numbers: None)


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    """Equal up to `share` of the largest value."""
    assert found.shape == expected.shape
    error = (found.double() - expected.double()).abs().max().item()
    assert error <= share * expected.abs().max().item() + 1e-12, f"{error} of {expected.abs().max().item()}"


def plain_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(future, float("-inf")).softmax(-1) @ v


@pytest.mark.parametrize(("dtype", "share"), [(torch.bfloat16, 0.02), (torch.float32, 1e-5)], ids=["bf16", "fp32"])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 129, 256, 257, 300])
def test_attention_equals_its_definition(length: int, dtype: torch.dtype, share: float) -> None:
    torch.manual_seed(length)
    rough = [torch.randn(2, 3, length, 16).to(dtype).requires_grad_() for _ in range(3)]
    exact = [x.detach().double().requires_grad_() for x in rough]
    towards = torch.randn(2, 3, length, 16).to(dtype)
    y, wanted = causal_attention(*rough, 16**-0.5), plain_attention(*exact)
    assert y.dtype == dtype
    close(y, wanted, share)
    y.backward(towards)
    wanted.backward(towards.double())
    for found, expected in zip(rough, exact, strict=True):
        # One token has nothing to choose between: its query and key have no gradient, up to rounding.
        if length > 1 or found is rough[2]:
            close(found.grad, expected.grad, 2 * share)
        else:
            assert found.grad.abs().max() < 0.02


def test_attention_takes_inputs_that_are_not_contiguous() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 70, 3, 16).bfloat16().transpose(1, 2) for _ in range(3))
    close(causal_attention(q, k, v, 16**-0.5), plain_attention(q.double(), k.double(), v.double()), 0.02)


@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (2, 3, 4, 24)])
def test_rms_norm_equals_its_definition(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm = RMSNorm(24, 1e-6)
    torch.nn.init.normal_(norm.weight, 1.0, 0.3)
    x = torch.randn(shape, requires_grad=True)
    exact, weight = x.detach().double().requires_grad_(), norm.weight.detach().double().requires_grad_()
    towards = torch.randn(shape)
    wanted = exact * (exact.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight
    y = norm(x)
    close(y, wanted, 1e-6)
    y.backward(towards)
    wanted.backward(towards.double())
    close(x.grad, exact.grad, 1e-5)
    close(norm.weight.grad, weight.grad, 1e-5)
    with torch.no_grad():
        close(norm(x), wanted, 1e-6)


def test_rms_norm_is_exact_in_bf16_but_for_the_last_rounding() -> None:
    torch.manual_seed(0)
    norm = RMSNorm(32, 1e-6)
    x = torch.randn(6, 32).bfloat16().requires_grad_()
    wanted = F.rms_norm(x.double(), (32,), None, 1e-6)
    y = norm(x)
    assert y.dtype == torch.bfloat16
    close(y, wanted, 2**-8)
    y.float().square().sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert norm.weight.grad.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(x.detach().float()).dtype == torch.bfloat16


def test_rms_norm_of_zeros_is_zero() -> None:
    x = torch.zeros(3, 8, requires_grad=True)
    y = RMSNorm(8, 1e-6)(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(3, 8))
    assert x.grad.isfinite().all()


def turned_from(rotary: Rotary, x: torch.Tensor, start: int) -> torch.Tensor:
    stop = start + x.shape[1]
    return apply_rotary(x, rotary(torch.arange(start, stop)[None], stop))


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("start", [0, 3])
def test_rotary_equals_a_complex_rotation(start: int, share: float) -> None:
    torch.manual_seed(0)
    config = ModelConfig(family="gpt_neox", dim=32, heads=2, rotary_share=share)
    x = torch.randn(2, 5, 3, 16, requires_grad=True)
    exact = x.detach().double().requires_grad_()
    half = int(8 * share)
    angles = torch.outer(torch.arange(start, start + 5).double(), 100.0 ** -(torch.arange(half).double() / half))
    parts = torch.complex(exact[..., :half], exact[..., half : 2 * half])
    parts = parts * torch.polar(torch.ones_like(angles), angles)[:, None]
    wanted = torch.cat([parts.real, parts.imag, exact[..., 2 * half :]], -1)
    rotary = Rotary(config, theta=100.0)
    y = turned_from(rotary, x, start)
    close(y, wanted, 1e-6)
    with torch.no_grad():
        close(turned_from(rotary, x, start), wanted, 1e-6)
    towards = torch.randn_like(x)
    y.backward(towards)
    wanted.backward(towards.double())
    close(x.grad, exact.grad, 1e-6)


def test_rotary_products_depend_on_distances_only() -> None:
    torch.manual_seed(0)
    rotary = Rotary(ModelConfig(dim=32, heads=2), theta=1e4)
    q, k = torch.randn(2, 1, 1, 1, 16)
    products = [(turned_from(rotary, q, start + 7) * turned_from(rotary, k, start)).sum() for start in (0, 11, 50)]
    torch.testing.assert_close(products, [products[0]] * 3, atol=1e-4, rtol=0)


def test_rotary_angles_stay_exact_in_a_model_of_halves() -> None:
    config = ModelConfig(dim=32, heads=2, context=4096)
    exact, short = Rotary(config, theta=1e4), Rotary(config, theta=1e4).to(torch.bfloat16)
    positions = torch.arange(4000, 4096)[None]
    assert torch.equal(exact(positions, 4096).cos, short(positions, 4096).cos)


def head_only(dim: int, vocab_size: int, **settings: object) -> Decoder:
    return Decoder(ModelConfig(dim=dim, heads=1, depth=1, vocab_size=vocab_size, **settings))


HEADS = {
    "plain": {},
    "divided": {"family": "granite", "logit_divisor": 3.0, "tied": False},
    "capped": {"family": "gemma3", "logit_cap": 2.0},
    "with a bias": {"family": "phi"},
}


@pytest.mark.parametrize("rows", [1000, 32, 1], ids=["one chunk", "three chunks", "a chunk for each position"])
@pytest.mark.parametrize("settings", HEADS.values(), ids=HEADS)
def test_the_loss_and_its_gradients_equal_cross_entropy(settings: dict, rows: int, monkeypatch) -> None:
    torch.manual_seed(0)
    n, dim, vocab_size = 80, 4, 11
    monkeypatch.setattr("tinyslm.model.loss.chunk_rows", lambda _: rows)
    model = head_only(dim, vocab_size, **settings)
    for parameter in model.lm_head.parameters():
        torch.nn.init.normal_(parameter)
    hidden = torch.randn(n, dim, requires_grad=True)
    targets = torch.randint(0, vocab_size, (n,))
    targets[[0, 17, n - 1]] = IGNORE
    exact, head = hidden.detach().double().requires_grad_(), deepcopy(model.lm_head).double()
    plain = F.cross_entropy(shaped(head(exact), model.config), targets, ignore_index=IGNORE, reduction="none")
    (0.3 * plain.sum()).backward()
    total = loss_sum(model, hidden, targets)
    (0.3 * total).backward()
    close(total, plain.sum(), 1e-6)
    close(hidden.grad, exact.grad, 1e-5)
    close(model.lm_head.weight.grad, head.weight.grad, 1e-5)
    if head.bias is not None:
        close(model.lm_head.bias.grad, head.bias.grad, 1e-5)
    assert hidden.grad[[0, 17, n - 1]].abs().max() == 0
    with torch.no_grad():
        losses = token_losses(model, hidden, targets)
    close(losses, plain, 1e-5)
    assert losses[[0, 17, n - 1]].tolist() == [0, 0, 0]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("settings", HEADS.values(), ids=HEADS)
def test_log_probs_equal_their_definition(settings: dict, monkeypatch: pytest.MonkeyPatch, *, frozen: bool) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("tinyslm.model.loss.chunk_rows", lambda _: 7)
    model = head_only(4, 11, **settings)
    for parameter in model.lm_head.parameters():
        torch.nn.init.normal_(parameter)
    model.lm_head.requires_grad_(not frozen)
    hidden, targets, towards = torch.randn(20, 4, requires_grad=True), torch.randint(0, 11, (20,)), torch.randn(20)
    exact, head = hidden.detach().double().requires_grad_(), deepcopy(model.lm_head).double()
    plain = shaped(head(exact), model.config).log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    (plain * towards).sum().backward()
    found = log_probs(model, hidden, targets)
    (found * towards).sum().backward()
    close(found, plain, 1e-6)
    close(hidden.grad, exact.grad, 1e-5)
    if frozen:
        assert all(parameter.grad is None for parameter in model.lm_head.parameters())
    else:
        close(model.lm_head.weight.grad, head.weight.grad, 1e-5)


def test_the_loss_under_autocast_keeps_its_softmax_in_fp32() -> None:
    torch.manual_seed(0)
    model, hidden = head_only(16, 300), torch.randn(50, 16, requires_grad=True)
    head = model.lm_head.weight
    torch.nn.init.normal_(head)
    targets = torch.randint(0, 300, (50,))
    plain = F.cross_entropy(hidden.bfloat16().double() @ head.bfloat16().double().t(), targets, reduction="sum")
    with torch.autocast("cpu", torch.bfloat16):
        total = loss_sum(model, hidden, targets)
    total.backward()
    assert total.dtype == hidden.grad.dtype == head.grad.dtype == torch.float32
    assert total.item() == pytest.approx(plain.item(), rel=5e-3)


def test_a_loss_without_targets_is_zero_with_zero_gradients() -> None:
    model, hidden = head_only(4, 7), torch.randn(5, 4, requires_grad=True)
    total = loss_sum(model, hidden, torch.full((5,), IGNORE))
    total.backward()
    assert total.item() == hidden.grad.abs().max() == model.lm_head.weight.grad.abs().max() == 0
