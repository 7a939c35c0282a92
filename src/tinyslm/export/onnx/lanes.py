"""Some sequences side by side in the form that the graph reads and extends.

The graph takes one past for all sequences of a call, as long as the longest of them, and appends the new tokens behind
it in place. So each sequence lies in a lane of one buffer, all of them ending where the next token goes; what lies
before a short one, and what was taken back, is hidden by the mask, from which the graph also counts positions.

Shape legend: n keys and values of all blocks (twice the depth), b lanes, g kv_heads, s places, k head_dim,
t new tokens of each lane, w wanted ones.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyslm.export.onnx.graph import cache_names
from tinyslm.export.onnx.session import HIDDEN, WANTED, OnnxModel

STEP = 256
"""Buffers have a multiple of so many places."""

Array = NDArray[Any]


class Lanes:
    """Sequences with room for more of their tokens.

    Attributes: `buffers` fp32 `[n, b, g, s, k]`; `places`: of each position of a lane, where it lies `[b, s]`;
    `lengths`: positions in each lane `[b]`.
    """

    def __init__(self, model: OnnxModel, lengths: Array, room: int) -> None:
        """Lanes for sequences of so many tokens, which are to be put into `buffers`, and `room` more."""
        sizes = model.sizes
        self.lengths = lengths.copy()
        self._end = int(lengths.max())
        needed = self._end + room
        count = STEP * -(-(needed + needed // 4) // STEP)
        self.buffers = np.zeros((2 * sizes.depth, len(lengths), sizes.kv_heads, count, sizes.head_dim), np.float32)
        self.places = self._end - lengths[:, None] + np.arange(count)
        self._mask = (np.arange(count) >= self._end - lengths[:, None]).astype(np.int64)
        self._model = model
        self._binding = self._bound()
        self._results: dict[tuple[int, ...], Array] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    def cut(self, lengths: Array) -> None:
        """Take back what lies behind these lengths."""
        for lane in np.flatnonzero(lengths < self.lengths):
            self._mask[lane, self.places[lane, lengths[lane] : self.lengths[lane]]] = 0
        self.lengths = lengths.copy()
        lasts = np.where(lengths > 0, self.places[np.arange(len(self)), lengths - 1] + 1, 0)
        self._end = int(lasts.max())

    def has_room(self, count: int) -> bool:
        """Whether so many tokens more fit each lane."""
        return self._end + count <= self.buffers.shape[3]

    def run(self, ids_bt: Array, wanted_w: Array) -> tuple[Array, Array]:
        """Append tokens to all lanes; logits `[b, w, vocab_size]` and final hidden states `[b, w, dim]`.

        They are overwritten by the next call.
        """
        batch, count = ids_bt.shape
        end = self._end + count
        new = self.lengths[:, None] + np.arange(count)
        np.put_along_axis(self.places, new, np.broadcast_to(np.arange(self._end, end), new.shape), 1)
        self._mask[:, self._end : end] = 1
        inputs = {"input_ids": ids_bt.astype(np.int64), "attention_mask": self._mask[:, :end].copy()}
        inputs[WANTED] = wanted_w.astype(np.int64)
        binding, sizes = self._binding, self._model.sizes
        for name, value in inputs.items():
            binding.bind_input(name, "cpu", 0, np.int64, value.shape, value.ctypes.data)
        results = [self._result(batch, len(wanted_w), width) for width in (sizes.vocab_size, sizes.dim)]
        for name, result in zip(("logits", HIDDEN), results, strict=True):
            binding.bind_output(name, "cpu", 0, np.float32, result.shape, result.ctypes.data)
        self._model.session.run_with_iobinding(binding)
        self.lengths = self.lengths + count
        self._end = end
        return results[0], results[1]

    def _bound(self) -> Any:
        """Past and present are the same memory, so that the graph appends in place."""
        binding = self._model.session.io_binding()
        depth = self._model.sizes.depth
        names = zip(cache_names(depth, "past_key_values"), cache_names(depth, "present"), strict=True)
        for (past, present), buffer in zip(names, self.buffers, strict=True):
            binding.bind_input(past, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
            binding.bind_output(present, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
        return binding

    def _result(self, *shape: int) -> Array:
        if shape not in self._results:
            self._results = {kept: array for kept, array in self._results.items() if kept[2] != shape[2]}
            self._results[shape] = np.empty(shape, np.float32)
        return self._results[shape]
