"""Packed rows: examples are computed as if each were alone, and so are the gradients."""

import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.loss import IGNORE, loss_sum

FAMILIES = {
    "tinyslm": {},
    "gpt2": {},
    "gemma2": {"head_dim": 16, "window": 4, "kv_heads": 1},
    "mistral": {"window": 4, "kv_heads": 1},
    "olmo3": {"window": 4},
}
LENGTHS = [[7, 1, 12], [3], [9, 9]]


def model_of(family: str) -> Decoder:
    torch.manual_seed(0)
    shape = {"vocab_size": 50, "dim": 32, "heads": 2, "depth": 2, "context": 24, "init_std": 0.2, **FAMILIES[family]}
    return Decoder(ModelConfig(family=family, **shape))


def rows_of(generator: torch.Generator):
    """Inputs, targets and segments `[rows, t]`, and the examples in them."""
    size = max(map(sum, LENGTHS)) + 2
    inputs, targets = torch.zeros(2, len(LENGTHS), size, dtype=torch.int64)
    segments = torch.full((len(LENGTHS), size), -1)
    targets.fill_(IGNORE)
    examples = []
    for row, lengths in enumerate(LENGTHS):
        start = 0
        for number, length in enumerate(lengths):
            ids = torch.randint(0, 50, (length + 1,), generator=generator)
            learned = torch.rand(length, generator=generator) < 0.6
            part = slice(start, start + length)
            inputs[row, part] = ids[:-1]
            targets[row, part] = torch.where(learned, ids[1:], IGNORE)
            segments[row, part] = number
            examples.append((row, part))
            start += length
    return inputs, targets, segments, examples


def gradients(model: Decoder) -> dict[str, torch.Tensor]:
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_separate(family: str) -> None:
    model = model_of(family).train()
    inputs, targets, segments, examples = rows_of(torch.Generator().manual_seed(1))
    hidden = model.model(inputs, segments_bt=segments)
    learned = targets != IGNORE
    packed = loss_sum(model, hidden[learned], targets[learned])
    packed.backward()
    together = gradients(model)
    total = torch.zeros(())
    for row, part in examples:
        alone = model.model(inputs[row : row + 1, part])
        assert torch.allclose(alone[0], hidden[row, part], atol=1e-5)
        mine = targets[row : row + 1, part] != IGNORE
        loss = loss_sum(model, alone[mine], targets[row : row + 1, part][mine])
        loss.backward()
        total += loss.detach()
    assert packed.item() == pytest.approx(total.item(), rel=1e-5)
    for name, gradient in gradients(model).items():
        assert torch.allclose(together[name], gradient, atol=1e-5, rtol=1e-4), name


def test_examples_longer_than_the_context_are_refused() -> None:
    model = model_of("tinyslm")
    with pytest.raises(TinyslmError, match="25 tokens does not fit"):
        model.model(torch.zeros(1, 25, dtype=torch.int64), segments_bt=torch.zeros(1, 25, dtype=torch.int64))
    model.model(torch.zeros(1, 48, dtype=torch.int64), segments_bt=torch.tensor([[0] * 24 + [1] * 24]))
