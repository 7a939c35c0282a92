"""PyTorch's layers, without weights of their own choosing: `Decoder.reset` draws them all, or a file brings them.

Memory that nobody has written to costs nothing, so a `Decoder` that waits for its weights is nearly free.
"""

from torch import nn


class Linear(nn.Linear):
    """x W^T + b."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class Embedding(nn.Embedding):
    """A table of rows."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""
