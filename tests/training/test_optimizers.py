"""Muon and the sorting of weights into groups."""

import pytest
import torch

from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.training.config import OptimizerConfig
from tinyslm.training.muon import Muon, orthogonalize
from tinyslm.training.optimizers import Optimizers, sort_parameters


def small(family: str = "qwen3") -> Decoder:
    torch.manual_seed(0)
    return Decoder(ModelConfig(family=family, vocab_size=64, dim=32, heads=2, depth=2, context=16))


def with_gradients(model: Decoder, seed: int) -> Decoder:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("shape", [(4, 48, 48), (2, 96, 32), (2, 32, 96), (1, 64, 8), (3, 40, 1)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_orthogonalized_matrices_have_singular_values_near_one(shape: tuple[int, int, int], scale: float) -> None:
    torch.manual_seed(0)
    matrices = scale * torch.randn(shape)
    found = orthogonalize(matrices).float()
    assert found.shape == matrices.shape
    values = torch.linalg.svdvals(found)
    assert values.max() < 1.35
    # The iteration lifts small values by 3.4 each time: the very smallest of a square matrix stay below.
    assert values.median() > 0.6
    # The same directions: the nearest orthogonal matrix is u v^T.
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    overlap = torch.linalg.vecdot(found.flatten(1), (u @ vt).flatten(1)) / min(shape[1:])
    assert overlap.min() > 0.6


def test_zero_stays_zero() -> None:
    assert not orthogonalize(torch.zeros(2, 6, 4)).any()


def test_matrices_together_step_as_each_alone() -> None:
    torch.manual_seed(0)
    shapes = [(24, 24), (48, 24), (24, 48), (24, 24), (24, 48), (48, 24)]
    together = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    alone = [torch.nn.Parameter(matrix.detach().clone()) for matrix in together]
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}
    optimizers = [Muon(together, **settings), *(Muon([matrix], **settings) for matrix in alone)]
    for _ in range(3):
        for one, other in zip(together, alone, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("shape", "factor"), [((32, 32), 1.0), ((64, 16), 2.0), ((16, 64), 1.0)])
def test_muon_moves_a_matrix_by_its_learning_rate(shape: tuple[int, int], factor: float) -> None:
    torch.manual_seed(0)
    matrix = torch.nn.Parameter(torch.zeros(shape))
    matrix.grad = 1e-3 * torch.randn(shape)
    Muon([matrix], lr=0.5).step()
    values = torch.linalg.svdvals(matrix.detach())
    assert 0.6 < values.median().item() / (0.5 * factor) < 1.25


def test_muon_decays_weights_apart_from_the_gradient() -> None:
    matrix = torch.nn.Parameter(torch.ones(4, 4))
    matrix.grad = torch.zeros(4, 4)
    Muon([matrix], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(matrix.detach(), torch.full((4, 4), 0.95))


def test_a_matrix_without_a_gradient_stays() -> None:
    matrices = [torch.nn.Parameter(torch.ones(4, 4)) for _ in range(2)]
    matrices[0].grad = torch.ones(4, 4)
    Muon(matrices, weight_decay=0.1).step()
    assert torch.equal(matrices[1].detach(), torch.ones(4, 4))


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2", "tinyslm"])
def test_every_weight_is_in_one_group(family: str) -> None:
    model = small(family)
    matrices, tables, vectors = sort_parameters(model)
    assert len({*matrices, *tables, *vectors}) == len(matrices) + len(tables) + len(vectors)
    assert {*matrices, *tables, *vectors} == set(model.parameters())
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert {names[p].split(".")[-2][-4:] for p in matrices} == {"proj"}
    assert all("embed" in names[p] or "lm_head" in names[p] for p in tables)
    assert all(p.ndim == 1 for p in vectors)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_matrices_decay_and_vectors_do_not(name: str) -> None:
    model = small("gpt2")
    config = OptimizerConfig(name=name, weight_decay=0.5, lr=0.1, muon_lr=0.1)
    decays = {
        parameter: (type(part).__name__, group["weight_decay"])
        for part in Optimizers(model, config).parts
        for group in part.param_groups
        for parameter in group["params"]
    }
    matrices, tables, vectors = sort_parameters(model)
    assert decays.keys() == set(model.parameters())
    assert {decays[p] for p in vectors} == {("AdamW", 0.0)}
    assert {decays[p] for p in matrices} == {("Muon", 0.5) if name == "muon" else ("AdamW", 0.5)}
    assert {decays[p][0] for p in tables} == {"AdamW"}


def test_adamw_alone_is_torchs() -> None:
    config = OptimizerConfig(name="adamw", lr=0.01, beta1=0.8, beta2=0.9, weight_decay=0.0)
    ours, theirs = small(), small()
    optimizers = Optimizers(ours, config)
    plain = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.8, 0.9), eps=1e-10, weight_decay=0.0)
    for seed in range(3):
        with_gradients(ours, seed)
        with_gradients(theirs, seed)
        optimizers.step(1.0)
        plain.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_optimizers_go_on_from_their_saved_state(name: str) -> None:
    config = OptimizerConfig(name=name)
    model = small()
    optimizers = Optimizers(model, config)
    for seed in range(3):
        with_gradients(model, seed)
        optimizers.step(0.5)
    copy = small()
    copy.load_state_dict(model.state_dict())
    restored = Optimizers(copy, config)
    restored.restore({label: tensor.clone() for label, tensor in optimizers.state().items()})
    assert restored.state().keys() == optimizers.state().keys()
    for one, parts in ((model, optimizers), (copy, restored)):
        with_gradients(one, 7)
        parts.step(1.0)
    for one, other in zip(model.parameters(), copy.parameters(), strict=True):
        assert torch.equal(one, other)
