"""The native runner: rows of tokens in, logits out, on a CPU.

A row's result does not depend on what else is computed with it, to the last bit: not on the number of rows in a call,
nor on how a prompt is cut into calls.
"""

import ctypes
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tinyslm.hardware.limits import usable_cores
from tinyslm.inference.native.build import library
from tinyslm.inference.native.memory import Memory, pages
from tinyslm.inference.native.program import Header, Matrix, Op, Program, compiled, without_head
from tinyslm.inference.native.tiles import Format
from tinyslm.inference.runner import Rows
from tinyslm.inference.sampler import SamplingBatch
from tinyslm.model.decoder import Decoder
from tinyslm.model.packed import is_packed

BLOCK = 16
MOST_ROWS = 256
"""Rows that are computed at once; a call may have any number."""

_LINE = 32  # rows of the result are padded to a multiple of this


def suits(model: Decoder) -> str | None:
    """Why this model cannot be run natively; `None` where it can."""
    if model.device.type != "cpu":
        return f"the model is on {model.device}, not on the CPU"
    if model.config.rope_scaling.kind == "dynamic":
        return "its positions are scaled by the length of the text (dynamic NTK)"
    if model.config.switch_length:
        return f"its positions turn differently in texts of more than {model.config.switch_length} tokens (longrope)"
    return None


class _Rows(ctypes.Structure):
    """`Rows` of step.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("ids", "positions", "sequences", "tables", "wanted")),
        *((name, ctypes.c_int32) for name in ("count", "table_width", "wanted_count")),
    ]


class _Draws(ctypes.Structure):
    """`SamplingBatch` of draw.h."""

    _fields_ = [
        *(
            (name, ctypes.c_void_p)
            for name in ("logits", "temperature", "top_k", "top_p", "min_p", "chance", "allowed")
        ),
        ("stride", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("count", "vocab_size")),
    ]


class NativeRunner:
    """A model with its keys and values in `blocks` blocks of 16 positions, numbered from 0.

    precision: "fp32" or "bf16" for matrices, keys and values ("packed" is bf16 too); packed matrices stay packed, and
    read bf16. By default bf16 where the model is packed or in bf16 itself. threads: by default as many as there are
    cores. Raises `NotAvailable` without a compiler; `suits` must have said yes to the model.
    """

    name = "native"
    block_size = BLOCK

    def __init__(
        self,
        model: Decoder,
        blocks: int,
        *,
        precision: Literal["fp32", "bf16", "packed"] | None = None,
        threads: int | None = None,
        native: ctypes.CDLL | None = None,
    ) -> None:
        assert suits(model) is None, suits(model)
        self._library = native or library()
        self._model = model
        self.vocab_size = model.config.vocab_size
        exact = model.dtype == torch.float32 and not is_packed(model) if precision is None else precision == "fp32"
        self._format = Format.FP32 if exact else Format.BF16
        self._threads = threads or usable_cores()
        narrow_inputs = bool(self._library.tinyslm_narrow_inputs())
        self._program = compiled(
            model, self._format, narrow_inputs=narrow_inputs, longest=model.config.longest, memory=Memory()
        )
        self._machine = Machine(self._library, self._program, model, blocks, self._format, self._threads)
        self._texts: Machine | None = None

    def run(self, rows: Rows) -> NDArray[np.float32]:
        """Logits `[w, vocab_size]` of the wanted rows; they are overwritten by the next call.

        Any number of rows; those of one sequence stand by position.
        """
        return self._machine.run(rows)[:, : self.vocab_size]

    def hidden(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Final hidden states of one text, fp32 `[t, dim]`; does not touch the blocks."""
        blocks = -(-len(ids) // BLOCK)
        if self._texts is None or self._texts.blocks < blocks:
            program = without_head(self._program, self._model)
            self._texts = Machine(self._library, program, self._model, blocks, self._format, self._threads)
        whole = np.arange(len(ids), dtype=np.int32)
        table = np.arange(blocks, dtype=np.int32)[None]
        rows = Rows(np.array(ids, np.int32), whole, np.zeros_like(whole), table, whole)
        return self._texts.run(rows)[:, : self._model.config.dim].copy()

    def draw(self, logits_wv: NDArray[np.float32], draws: SamplingBatch) -> NDArray[np.int32]:
        """What `sampler.draw` gives, with all threads."""
        return self._machine.draw(logits_wv, draws)

    def copy_block(self, source: int, target: int) -> None:
        """Make block `target` hold the keys and values of block `source`."""
        self._machine.copy_block(source, target)


class Machine:
    """A program with its keys and values, ready to run."""

    def __init__(
        self, native: ctypes.CDLL, program: Program, model: Decoder, blocks: int, kind: Format, threads: int
    ) -> None:
        self.blocks = blocks
        self._library, self._program = native, program  # the program holds the memory that is read
        self._handle = None
        config, size = model.config, 4 if kind == Format.FP32 else 2
        key = config.head_dim if kind == Format.FP32 else -(-config.head_dim // 2) * 2
        value = -(-config.head_dim // 16) * 16
        self._caches = [
            pages(config.depth * blocks * config.kv_heads * BLOCK * width * size).view(blocks, -1)
            for width in (key, value)
        ]
        self._width = -(-abs(program.widths[program.result]) // _LINE) * _LINE
        self._result = np.zeros((0, self._width), np.float32)
        header = Header(
            ops=(Op * len(program.ops))(*program.ops),
            matrices=(Matrix * len(program.matrices))(*program.matrices),
            widths=(ctypes.c_int32 * len(program.widths))(*program.widths),
            keys=self._caches[0].data_ptr(), values=self._caches[1].data_ptr(),
            op_count=len(program.ops), matrix_count=len(program.matrices), buffer_count=len(program.widths),
            result=program.result, heads=config.heads, kv_heads=config.kv_heads, head_dim=config.head_dim,
            vocab_size=config.vocab_size, blocks=blocks, layers=config.depth, narrow_cache=kind == Format.BF16,
            longest=config.longest, threads=threads, most_rows=MOST_ROWS,
        )  # fmt: skip
        self._handle = native.tinyslm_open(ctypes.byref(header))
        if not self._handle:
            raise MemoryError("There is not enough memory to run the model.")

    def __del__(self) -> None:
        if self._handle:
            self._library.tinyslm_close(self._handle)

    def run(self, rows: Rows) -> NDArray[np.float32]:
        """The program's result for the wanted rows, with padding `[w, width]`."""
        assert not len(rows.wanted) or 0 <= rows.wanted[0] <= rows.wanted[-1] < len(rows.ids), "unknown rows are wanted"
        if len(rows.wanted) > len(self._result):
            self._result = np.zeros((len(rows.wanted), self._width), np.float32)
        for first in range(0, len(rows.ids), MOST_ROWS):
            self._run_some(rows, first, min(first + MOST_ROWS, len(rows.ids)))
        return self._result[: len(rows.wanted)]

    def _run_some(self, rows: Rows, first: int, stop: int) -> None:
        start, end = np.searchsorted(rows.wanted, (first, stop))
        ids, positions, sequences = (
            np.ascontiguousarray(values[first:stop], np.int32) for values in (rows.ids, rows.positions, rows.sequences)
        )
        wanted = np.ascontiguousarray(rows.wanted[start:end] - first, np.int32)
        tables = np.ascontiguousarray(rows.tables, np.int32)
        some = _Rows(
            ids.ctypes.data, positions.ctypes.data, sequences.ctypes.data, tables.ctypes.data, wanted.ctypes.data,
            stop - first, tables.shape[1], len(wanted),
        )  # fmt: skip
        valid = self._library.tinyslm_run(self._handle, ctypes.byref(some), self._result[start:].ctypes.data)
        assert valid, "rows with unknown ids, positions or blocks"

    def draw(self, logits_wv: NDArray[np.float32], draws: SamplingBatch) -> NDArray[np.int32]:
        """Ids of the tokens drawn from each row."""
        count, size = logits_wv.shape
        rows = (
            logits_wv if logits_wv.dtype == np.float32 and logits_wv.strides[1] == 4 else logits_wv.astype(np.float32)
        )
        kinds = {"temperature": np.float32, "top_k": np.int32, "top_p": np.float32, "min_p": np.float32}
        columns = [np.ascontiguousarray(getattr(draws, name), kind) for name, kind in kinds.items()]
        columns.append(np.ascontiguousarray(draws.chance, np.float64))
        assert all(len(column) == count for column in columns)
        allowed = None if draws.allowed is None else np.ascontiguousarray(draws.allowed, np.uint32)
        assert allowed is None or allowed.shape == (count, -(-size // 32))
        ids = np.empty(count, np.int32)
        given = _Draws(
            rows.ctypes.data, *(column.ctypes.data for column in columns),
            None if allowed is None else allowed.ctypes.data, rows.strides[0] // 4, count, size,
        )  # fmt: skip
        self._library.tinyslm_draw(self._handle, ctypes.byref(given), ids.ctypes.data)
        return ids

    def copy_block(self, source: int, target: int) -> None:
        """Of all layers."""
        for cache in self._caches:
            cache[target] = cache[source]
