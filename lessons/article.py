"""The article's TinySLM with its faults corrected, in plain PyTorch: the starting file of exercises of `tinyslm learn`.

Learned positions, LayerNorm before each part of a block, GELU, an output projection of its own. In the names of
tensors, b is the batch, t the time (position), d the width of the model, h the heads and e the width of one head.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Each position sums the values of positions up to its own, weighted by how well its query matches their keys."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(dim, dim) for _ in "qkvo")

    def scores(self, q_bhte, k_bhte):
        """How well each query matches each key, [b, h, t, t]: minus infinity for the keys of later positions."""
        scores_bhtt = q_bhte @ k_bhte.transpose(-2, -1) * q_bhte.shape[-1] ** -0.5
        later_tt = torch.ones(scores_bhtt.shape[-2:], dtype=torch.bool).triu(1)
        return scores_bhtt.masked_fill(later_tt, float("-inf"))

    def forward(self, x_btd):
        projected = (project(x_btd) for project in (self.q_proj, self.k_proj, self.v_proj))
        q_bhte, k_bhte, v_bhte = (one.unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in projected)
        mixed_bhte = self.scores(q_bhte, k_bhte).softmax(-1) @ v_bhte
        return self.o_proj(mixed_bhte.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention mixes positions, the feed-forward works on each one; both add to the residual stream x."""

    def __init__(self, dim, heads):
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(dim), Attention(dim, heads)
        self.mlp_norm, self.up, self.down = nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x_btd):
        x_btd = x_btd + self.attention(self.attention_norm(x_btd))
        return x_btd + self.down(F.gelu(self.up(self.mlp_norm(x_btd))))


class TinySLM(nn.Module):
    """Token ids [b, t] to logits [b, t, vocabulary]."""

    def __init__(self, vocab_size, dim=256, depth=8, heads=4):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, dim)
        self.positions = nn.Embedding(512, dim)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)

    def forward(self, ids_bt):
        x_btd = self.tokens(ids_bt) + self.positions(torch.arange(ids_bt.shape[1]))
        for block in self.blocks:
            x_btd = block(x_btd)
        return self.head(self.norm(x_btd))
