"""The article's block as printed and with its faults corrected: the chapter shows these lines, and runs them.

Each maps `[batch, seq, dim]` to the same. `docs/the-article-corrected.md` explains the four faults.
"""

# mypy: disable-error-code="no-any-return"

import torch
from torch import Tensor, nn


class PrintedBlock(nn.Module):
    """As printed in the article."""

    def __init__(self, dim: int = 256, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.scale = heads, dim**-0.5
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 1024), nn.GELU(), nn.Linear(1024, dim))

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)  # [batch, seq, heads, head_dim]
        scores = q @ k.transpose(-2, -1) * self.scale  # [batch, seq, heads, heads]
        mixed = scores.softmax(-1) @ v
        return self.out(mixed.flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class CorrectedBlock(nn.Module):
    """With the four faults corrected."""

    def __init__(self, dim: int = 256, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)  # [batch, seq, heads, head_dim]
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [batch, heads, seq, head_dim]
        scores = self.hide(q @ k.transpose(-2, -1) * self.scale)  # [batch, heads, seq, seq]
        mixed = (scores.softmax(-1) @ v).transpose(1, 2)
        return self.out(mixed.flatten(2))

    def hide(self, scores: Tensor) -> Tensor:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        return scores.masked_fill(later, float("-inf"))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class UnmaskedBlock(CorrectedBlock):
    """With every fault corrected but the missing mask."""

    def hide(self, scores: Tensor) -> Tensor:
        return scores
