"""The KV cache: keys and values of the tokens seen so far, so that each new token costs one row of work.

Shape legend: b batch, g kv_heads, s tokens, k head_dim.
"""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyslm.model.config import ModelConfig


class LayerKV:
    """One layer's keys and values, in buffers with room for a fixed number of tokens."""

    def __init__(self, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        self._k_bgsk = torch.empty(shape, dtype=dtype, device=device)
        self._v_bgsk = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    def extend(self, k_bgtk: Tensor, v_bgtk: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values of `t` tokens; returns views of all so far, `[b, g, s, k]`."""
        stop = self.length + k_bgtk.shape[2]
        self._k_bgsk[:, :, self.length : stop] = k_bgtk
        self._v_bgsk[:, :, self.length : stop] = v_bgtk
        self.length = stop
        return self._k_bgsk[:, :, :stop], self._v_bgsk[:, :, :stop]

    def extend_arrays(self, k_bgk: NDArray[Any], v_bgk: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """`extend` by one token on a CPU, with NumPy arrays in the same memory."""
        keys, values = self._k_bgsk.numpy(), self._v_bgsk.numpy()
        keys[:, :, self.length], values[:, :, self.length] = k_bgk, v_bgk
        self.length += 1
        return keys[:, :, : self.length], values[:, :, : self.length]

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) these sequences of the batch, in this order."""
        self._k_bgsk, self._v_bgsk = self._k_bgsk[rows], self._v_bgsk[rows]


class KVCache:
    """The caches of all layers for a batch of sequences of one length."""

    def __init__(
        self, config: ModelConfig, batch: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (batch, config.kv_heads, capacity, config.head_dim)
        self.layers = [LayerKV(shape, dtype, device) for _ in range(config.depth)]

    @property
    def length(self) -> int:
        """Tokens seen so far."""
        return self.layers[0].length

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) these sequences of the batch, in this order; used to share one prompt among samples."""
        for layer in self.layers:
            layer.select(rows)
