"""PyTorch's layers, without weights of their own choosing: `Decoder.reset` draws them all, or a file brings them.

Memory that nobody has written to costs nothing, so a `Decoder` that waits for its weights is nearly free.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """x W^T + b, and what an adapter adds to it (see `lora`)."""

    adapter: Any

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.register_module("adapter", None)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        weight = self.weight
        if weight.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            weight = weight.to(x.dtype)  # frozen weights may be kept in fewer bits than what is computed
        y = F.linear(x, weight, self.bias)
        out: Tensor = y if self.adapter is None else self.adapter(x, y, self)
        return out

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class Embedding(nn.Embedding):
    """A table of rows, some of which an adapter may replace (see `token_rows`)."""

    adapter: Any

    def __init__(self, rows: int, width: int) -> None:
        super().__init__(rows, width)
        self.register_module("adapter", None)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of any shape to [..., width]."""
        found = F.embedding(ids, self.weight)
        out: Tensor = found if self.adapter is None else self.adapter.looked_up(ids, found)
        return out

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""
