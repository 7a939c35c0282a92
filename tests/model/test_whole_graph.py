"""torch.compile sees the model and its loss as one graph: nothing in them breaks it, nor do the kernels' switches."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.loss import loss_sum


@pytest.fixture(autouse=True)
def nothing_compiled_is_left() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def loss_and_gradient(
    model: Decoder, loss: Callable[[Tensor], Tensor], ids: Tensor, dtype: torch.dtype
) -> tuple[float, Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        value = loss(ids)
    value.backward()
    return value.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler does it
@pytest.mark.parametrize(
    ("family", "dtype", "recompute", "tolerance"),
    [
        ("qwen3", torch.bfloat16, False, 0.02),
        ("qwen3", torch.bfloat16, True, 0.02),
        ("qwen3", torch.float32, True, 1e-5),
        ("gpt2", torch.bfloat16, False, 0.02),
        ("gemma3", torch.float32, False, 1e-5),
    ],
)
def test_model_and_loss_are_one_graph(family: str, dtype: torch.dtype, recompute: bool, tolerance: float) -> None:
    torch.manual_seed(0)
    model = Decoder(ModelConfig(family=family, dim=64, depth=2, vocab_size=256, context=32)).train()
    model.model.recompute = recompute

    def loss(ids: Tensor) -> Tensor:
        return loss_sum(model, model.model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    ids = torch.randint(0, 256, (2, 33))
    expected, wanted = loss_and_gradient(model, loss, ids, dtype)
    whole = torch.compile(loss, fullgraph=True, backend="aot_eager")  # a break in the graph is an error
    found, gradient = loss_and_gradient(model, whole, ids, dtype)
    assert found == pytest.approx(expected, rel=1e-3)
    assert (gradient - wanted).norm() < tolerance * wanted.norm()
