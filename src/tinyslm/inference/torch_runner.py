"""The model's own modules as a runner: any family, any device, any number format.

Shape legend: b sequences of one call, t new tokens of each, s positions with the past, g kv_heads, k head_dim,
p positions in a block.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyslm.inference.native.memory import pages
from tinyslm.inference.runner import Rows
from tinyslm.inference.sampler import SamplingBatch, draw
from tinyslm.model.decoder import Decoder

BLOCK = 16


class TorchRunner:
    """Sequences with as many new rows as each other go through the model together."""

    name = "torch"
    block_size = BLOCK

    def __init__(self, model: Decoder, blocks: int) -> None:
        config = model.config
        self.model = model
        self.vocab_size = config.vocab_size
        shape = (config.depth, blocks, BLOCK, config.kv_heads, config.head_dim)
        self._keys, self._values = (_zeros(shape, model.dtype, model.device) for _ in range(2))
        # With dynamic and longrope scaling, the rotation of a token depends on the length of its sequence.
        self._together = config.rope_scaling.kind != "dynamic" and not config.switch_length

    @torch.inference_mode()
    def run(self, rows: Rows) -> NDArray[np.float32]:
        """Logits `[w, vocab_size]` of the wanted rows."""
        if self.model.training:
            self.model.eval()
        hidden = torch.empty(len(rows.ids), self.model.config.dim, dtype=self.model.dtype, device=self.model.device)
        for places, sequences in self._groups(rows):
            hidden[places.flatten()] = self._forward(rows, places, sequences).flatten(0, 1)
        logits: NDArray[np.float32] = self.model.logits(hidden[rows.wanted]).float().cpu().numpy()
        return logits

    def draw(self, logits_wv: NDArray[np.float32], draws: SamplingBatch) -> NDArray[np.int32]:
        """Ids of the tokens drawn from each row."""
        return draw(logits_wv, draws)

    @torch.inference_mode()
    def hidden(self, ids: Sequence[int]) -> NDArray[Any]:
        """Final hidden states of one text, fp32 `[t, dim]`."""
        hidden_td = self.model.model(torch.tensor([list(ids)], device=self.model.device))[0]
        hidden: NDArray[Any] = hidden_td.float().cpu().numpy()
        return hidden

    def _groups(self, rows: Rows) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Row numbers `[b, t]` and sequence numbers `[b]` of sequences with equally many rows."""
        sequences, starts, counts = np.unique(rows.sequences, return_index=True, return_counts=True)
        if not self._together:
            for sequence, start, count in zip(sequences, starts, counts, strict=True):
                yield np.arange(start, start + count)[None], np.array([sequence])
            return
        for count in np.unique(counts):
            chosen = counts == count
            yield starts[chosen][:, None] + np.arange(count), sequences[chosen]

    def _forward(self, rows: Rows, places_bt: NDArray[Any], sequences: NDArray[Any]) -> Tensor:
        """Final hidden states `[b, t, d]`."""
        device, config = self.model.device, self.model.config
        positions_bt = torch.from_numpy(rows.positions[places_bt].astype(np.int64)).to(device)
        length = int(positions_bt.max()) + 1
        blocks = -(-length // BLOCK)
        tables = torch.from_numpy(rows.tables[sequences, :blocks].astype(np.int64)).to(device).clamp(min=0)
        cache = _BlockCache(self._keys, self._values, tables, positions_bt)
        places_s = torch.arange(length, device=device)
        mask = (places_s <= positions_bt[..., None])[:, None]
        window_mask = None
        if config.window:
            window_mask = mask & (places_s > positions_bt[..., None] - config.window)[:, None]
        trunk = self.model.model
        in_all = int(rows.lengths[sequences].max()) if rows.lengths is not None and config.switch_length else length
        attn = trunk.attention_context(positions_bt, mask, window_mask, in_all)
        ids_bt = torch.from_numpy(rows.ids[places_bt].astype(np.int64)).to(device)
        return trunk.run(ids_bt, attn, cache)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, since what is masked is still multiplied by zero; on a CPU they take memory only once written to."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return pages(prod(shape) * dtype.itemsize).view(dtype)[: prod(shape)].view(shape)


class _BlockCache:
    """The blocks of some sequences, in the form that the model reads and extends."""

    def __init__(self, keys: Tensor, values: Tensor, tables: Tensor, positions_bt: Tensor) -> None:
        length = int(positions_bt.max()) + 1
        blocks_bt = tables.gather(1, positions_bt // BLOCK)
        slots = (blocks_bt, positions_bt % BLOCK)
        self.layers = [_LayerBlocks(k, v, tables, slots, length) for k, v in zip(keys, values, strict=True)]


class _LayerBlocks:
    """One block of the model: its keys and values `[blocks, p, g, k]`."""

    def __init__(self, keys: Tensor, values: Tensor, tables: Tensor, slots: tuple[Tensor, Tensor], length: int) -> None:
        self._keys, self._values, self._tables, self._slots, self._length = keys, values, tables, slots, length

    def extend(self, k_bgtk: Tensor, v_bgtk: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' keys and values; returns all of each sequence, `[b, g, s, k]`."""
        self._keys[self._slots] = k_bgtk.transpose(1, 2)
        self._values[self._slots] = v_bgtk.transpose(1, 2)
        return self._all(self._keys), self._all(self._values)

    def _all(self, pool: Tensor) -> Tensor:
        return pool[self._tables].flatten(1, 2)[:, : self._length].transpose(1, 2)
