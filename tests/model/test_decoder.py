"""What every family's `Decoder` promises: causality, shapes, a clear end of the context, stable numbers in bf16."""

import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.loss import loss_sum
from tinyslm.training.stage import Batch
from tinyslm.training.stages.pretrain import next_token_loss

FAMILIES = ["qwen3", "llama", "gpt2", "tinyslm"]


def small(family: str, **changes) -> Decoder:
    torch.manual_seed(5)
    shape = {"vocab_size": 64, "dim": 32, "heads": 4, "depth": 2, "context": 80}
    return Decoder(ModelConfig(family=family, **{**shape, **changes})).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_later_token_never_changes_earlier_logits(family: str, training: bool, dtype: torch.dtype) -> None:
    model = small(family).train(training)
    ids = torch.randint(0, 64, (2, 70))
    changed = ids.clone()
    changed[:, 66] = (ids[:, 66] + 1) % 64
    with torch.set_grad_enabled(training), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        before, after = model(ids), model(changed)
    assert torch.equal(before[:, :66], after[:, :66])
    assert (before[:, 66:] != after[:, 66:]).any(-1).all()  # and every later position saw it


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loss_has_no_gradient_from_what_comes_later(family: str) -> None:
    model = small(family)
    inputs = []
    model.model.embed_tokens.register_forward_hook(lambda _module, _args, out: inputs.append(out.retain_grad() or out))
    model(torch.randint(0, 64, (1, 70)))[0, 40].sum().backward()
    reached = inputs[0].grad[0].abs().sum(-1) > 0
    assert reached.tolist() == [True] * 41 + [False] * 29


def test_shapes_of_grouped_queries() -> None:
    model = small("qwen3", heads=6, kv_heads=2, head_dim=16)
    attention = model.model.layers[0].self_attn
    assert attention.q_proj.weight.shape == (96, 32)
    assert attention.k_proj.weight.shape == attention.v_proj.weight.shape == (32, 32)
    assert attention.o_proj.weight.shape == (32, 96)
    assert model(torch.zeros(3, 5, dtype=torch.long)).shape == (3, 5, 64)


def test_grouped_keys_and_values_are_those_of_full_heads_repeated() -> None:
    grouped, full = small("llama", kv_heads=2), small("llama", kv_heads=4)
    state = grouped.state_dict()
    for name in [name for name in state if "k_proj" in name or "v_proj" in name]:
        state[name] = state[name].unflatten(0, (2, 8)).repeat_interleave(2, 0).flatten(0, 1)
    full.load_state_dict(state)
    ids = torch.randint(0, 64, (2, 20))
    torch.testing.assert_close(grouped(ids), full(ids), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sequence_longer_than_the_context_is_refused_with_both_numbers(family: str) -> None:
    model = small(family, context=8)
    assert model(torch.zeros(1, 8, dtype=torch.long)).shape == (1, 8, 64)
    with pytest.raises(TinyslmError, match=r"9 tokens .* 8"):
        model(torch.zeros(1, 9, dtype=torch.long))


@pytest.mark.parametrize("length", [1, 65, 80])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_in_bf16_are_close_to_fp32(family: str, length: int) -> None:
    model = small(family).train()
    batch = torch.randint(0, 64, (4, length + 1))
    found = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss, weight, _ = next_token_loss(model, Batch.of_windows(batch))
        (loss / weight).backward()
        gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        assert loss.dtype == gradient.dtype == torch.float32
        found.append((loss.item() / weight, gradient))
    (exact, exact_gradient), (rough, rough_gradient) = found
    assert weight == 4 * length
    assert rough == pytest.approx(exact, rel=2e-3)
    assert torch.cosine_similarity(exact_gradient, rough_gradient, 0) > 0.995


def test_the_objective_is_the_cross_entropy_of_the_logits() -> None:
    model = small("qwen3")
    batch = torch.randint(0, 64, (3, 21))
    plain = torch.nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
    loss, weight, _ = next_token_loss(model, Batch.of_windows(batch))
    assert loss.item() / weight == pytest.approx(plain.item(), rel=1e-5)


def test_new_weights_follow_the_seed_and_start_at_even_odds() -> None:
    ids = torch.randint(0, 64, (2, 40))
    first, second = small("qwen3"), small("qwen3")
    assert torch.equal(first(ids), second(ids))
    hidden = first.model(ids[:, :-1]).flatten(0, 1)
    mean = loss_sum(first, hidden, ids[:, 1:].flatten()).item() / 78
    assert mean == pytest.approx(torch.tensor(64.0).log().item(), abs=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_acts_in_training_only(family: str) -> None:
    model = small(family, dropout=0.5)
    ids = torch.randint(0, 64, (1, 10))
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
