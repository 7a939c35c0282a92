"""Rows of the token tables that are trained beside adapters: those of tokens that are new to the model.

In PEFT's files they are `trainable_token_indices`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyslm.core.errors import TinyslmError
from tinyslm.model.decoder import Decoder
from tinyslm.model.packed import is_packed


class TokenRows(nn.Module):
    """Rows `[k, dim]` of some tokens, which take the place of those in a table `[vocab_size, dim]`."""

    ids: Tensor

    def __init__(self, table: Tensor, ids: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("ids", torch.tensor(list(ids), device=table.device), persistent=False)
        self.rows = nn.Parameter(table.detach()[self.ids].float().clone())

    def looked_up(self, ids: Tensor, found: Tensor) -> Tensor:
        """The rows of `ids` (any shape), given those of the table, `[..., dim]`."""
        same = ids.unsqueeze(-1) == self.ids
        return torch.where(same.any(-1, keepdim=True), same.to(found.dtype) @ self.rows.to(found.dtype), found)

    def forward(self, x: Tensor, y: Tensor, _: nn.Module) -> Tensor:
        """The scores `[..., vocab_size]` of hidden states x `[..., dim]`, given those with the table, as an adapter."""
        return y.index_copy(-1, self.ids, F.linear(x, self.rows.to(x.dtype)).to(y.dtype))

    def merged(self, table: Tensor) -> Tensor:
        """The table with these rows; differentiable with respect to them."""
        return table.index_copy(0, self.ids, self.rows.to(table.dtype))


def enlarge(model: Decoder, vocab_size: int) -> None:
    """Append rows to the token tables until there are `vocab_size`, each the mean of the others.

    Raises `TinyslmError` for a quantized output projection.
    """
    missing = vocab_size - model.config.vocab_size
    if missing <= 0:
        return
    _check_not_packed(model)
    table, head = model.model.embed_tokens, model.lm_head
    table.weight = nn.Parameter(_with_means(table.weight.detach(), missing))
    head.weight = table.weight if model.config.tied else nn.Parameter(_with_means(head.weight.detach(), missing))
    if head.bias is not None:
        head.bias = nn.Parameter(_with_means(head.bias.detach(), missing))
    head.out_features = vocab_size
    model.config = model.model.config = model.config.model_copy(update={"vocab_size": vocab_size})


def add_rows(model: Decoder, ids: Sequence[int]) -> None:
    """Train the rows of these tokens, which the tables must have. Raises `TinyslmError` for a quantized model."""
    _check_not_packed(model)
    table: Any = model.model.embed_tokens
    head: Any = model.lm_head
    table.adapter = TokenRows(table.weight, ids)
    head.adapter = table.adapter if model.config.tied else TokenRows(head.weight, ids)


def tables_with_rows(model: Decoder) -> Iterator[tuple[str, Any]]:
    """The token tables with trained rows, by name; a tied output projection is not listed twice."""
    tables: dict[str, Any] = {"model.embed_tokens": model.model.embed_tokens}
    if not model.config.tied:
        tables["lm_head"] = model.lm_head
    return ((name, table) for name, table in tables.items() if getattr(table, "adapter", None) is not None)


@torch.no_grad()
def merge_rows(model: Decoder) -> None:
    """Put trained rows into the tables."""
    for _, table in list(tables_with_rows(model)):
        table.weight.data = table.adapter.merged(table.weight)
        table.adapter = None
    if model.config.tied:
        model.lm_head.adapter = None


def _check_not_packed(model: Decoder) -> None:
    if is_packed(model):
        raise TinyslmError(
            "The model is quantized, and new tokens need rows in its tables.", "Start from the original model."
        )


def _with_means(table: Tensor, count: int) -> Tensor:
    """`count` more rows (or numbers), each the mean."""
    mean = table.float().mean(0, keepdim=True).to(table.dtype)
    return torch.cat([table, mean.expand(count, *mean.shape[1:])])
