"""The article's `TinySLM`: its signature, none of its four faults, and its own training loop."""

import math

import pytest
import torch
from torch.nn import functional as F

from tinyslm.core.errors import TinyslmError
from tinyslm.model.article import TinySLM


@pytest.fixture
def small() -> TinySLM:
    torch.manual_seed(0)
    return TinySLM(vocab_size=50, dim=48, depth=2, heads=3).eval()


def test_the_default_shape_is_the_articles() -> None:
    with torch.device("meta"):
        model = TinySLM(vocab_size=30000)
    config = model.config
    assert (config.dim, config.depth, config.heads, config.context) == (256, 8, 4, 512)
    assert model.lm_head.weight.shape == (30000, 256)
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    assert model.model.embed_positions.weight.shape == (512, 256)


def test_logits_have_a_row_for_each_token(small: TinySLM) -> None:
    assert small(torch.randint(0, 50, (2, 7))).shape == (2, 7, 50)


def test_tokens_see_earlier_ones(small: TinySLM) -> None:
    ids = torch.randint(1, 50, (1, 6))
    changed = ids.clone()
    changed[0, 1] = 0
    different = (small(ids) != small(changed))[0].any(-1)
    assert different.tolist() == [False, True, True, True, True, True]


def test_attention_is_scaled_by_the_width_of_a_head(small: TinySLM) -> None:
    attention = small.model.layers[0].self_attn
    x = torch.randn(1, 9, 48)
    q, k, v = (
        part(x).view(9, 3, 16).transpose(0, 1) for part in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    scores = q @ k.transpose(1, 2) * 16**-0.5 + torch.full((9, 9), float("-inf")).triu(1)
    wanted = attention.o_proj((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
    attn = small.model.attention_context(torch.arange(9)[None], None, None, 9)
    torch.testing.assert_close(attention(x, attn, None)[0], wanted, atol=1e-6, rtol=1e-4)


def test_the_feed_forward_follows_dim(small: TinySLM) -> None:
    assert small.model.layers[0].mlp.up_proj.weight.shape == (4 * 48, 48)


def test_too_long_a_sequence_is_told_in_words(small: TinySLM) -> None:
    assert small(torch.zeros(1, 512, dtype=torch.long)).shape == (1, 512, 50)
    with pytest.raises(TinyslmError, match=r"513 tokens .* 512"):
        small(torch.zeros(1, 513, dtype=torch.long))


def test_a_width_that_the_heads_do_not_divide_is_told_in_words() -> None:
    with pytest.raises(TinyslmError, match=r"dim \(250\) must be a multiple of heads \(4\)"):
        TinySLM(vocab_size=50, dim=250, heads=4)


def test_it_trains_with_the_articles_own_loop() -> None:
    torch.manual_seed(0)
    model = TinySLM(vocab_size=32, dim=64, depth=2, heads=4)
    ids = torch.tensor([list(b"the cat sat on the mat and ate. ")] * 4).remainder(32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    losses = []
    for _ in range(60):
        logits = model(ids[:, :-1])
        loss = F.cross_entropy(logits.reshape(-1, 32), ids[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(32), abs=0.3)
    assert losses[-1] < 0.5 * losses[0]
