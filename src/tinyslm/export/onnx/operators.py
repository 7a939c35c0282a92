"""ONNX Runtime's own operators, as parts that stand in a decoder in place of its modules while it is traced.

None of them computes anything here: each only says which operator the graph gets at its place.

Shape legend: b batch, t new tokens, s tokens with the past, d dim, h heads, g kv_heads, k head_dim, v vocab_size.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.onnx import ops

from tinyslm.export.onnx.blocks import BLOCK, Blocks
from tinyslm.model.attention import Attention
from tinyslm.model.rotary import CosSin, apply_rotary

INT8_PRODUCTS = 4
"""MatMulNBits' `accuracy_level` at which inputs, too, are rounded to 8 bits block by block: over ten times faster."""

ROTATED_TOGETHER = 16
"""GroupQueryAttention rotates as many values of a head as are a multiple of this; others are rotated before it."""


class BlockLinear(nn.Module):
    """A product with a rounded matrix (MatMulNBits)."""

    values: Tensor
    scales: Tensor
    zeros: Tensor

    def __init__(self, blocks: Blocks, bias: Tensor | None) -> None:
        super().__init__()
        self.bits, self.columns = blocks.bits, blocks.columns
        self.bias = bias
        for name in ("values", "scales", "zeros"):
            self.register_buffer(name, getattr(blocks, name), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., columns] to [..., rows]."""
        rows = self.values.shape[0]
        sizes = {"K": self.columns, "N": rows, "bits": self.bits, "block_size": BLOCK, "accuracy_level": INT8_PRODUCTS}
        inputs = (x, self.values, self.scales, self.zeros, None, self.bias)
        return _operator("MatMulNBits", inputs, sizes, x.dtype, (*x.shape[:-1], rows))


class BlockEmbedding(nn.Module):
    """Rows of a rounded matrix (GatherBlockQuantized); it may be that of the output projection, stored once."""

    def __init__(self, table: BlockLinear) -> None:
        super().__init__()
        self.table = table

    def forward(self, ids_bt: Tensor) -> Tensor:
        """Token ids to their vectors `[b, t, d]`."""
        table: BlockLinear = self.table
        values_vy = table.values.flatten(1)
        wide = values_vy.shape[1] * 8 // table.bits
        options = {"bits": table.bits, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
        inputs = (values_vy, ids_bt, table.scales, table.zeros)
        x_btd = _operator("GatherBlockQuantized", inputs, options, table.scales.dtype, (*ids_bt.shape, wide))
        return x_btd if wide == table.columns else x_btd[..., : table.columns]


class Tables(NamedTuple):
    """Cosines and sines of the rotation at each position, `[longest, r / 2]`."""

    cos: Tensor
    sin: Tensor

    def at(self, positions_bt: Tensor) -> CosSin:
        """The rotations at some positions."""
        cos, sin = self.cos[positions_bt][:, :, None], self.sin[positions_bt][:, :, None]
        return CosSin(torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1))


class Step(NamedTuple):
    """What attention must know of one call of the graph, the same in all blocks.

    last_b: the last place in the cache of each sequence. total: how many tokens there are, past included. new_b: how
    many of them are new. positions_bt: without the padding at the left. bias_b1ts: added to the products of queries and
    keys, so that nothing sees padding. tables and local_tables: for the two rotations of an `AttentionContext`.
    """

    last_b: Tensor
    total: Tensor
    new_b: Tensor
    positions_bt: Tensor
    bias_b1ts: Tensor
    tables: Tables | None
    local_tables: Tables | None


class LayerPast:
    """One block's keys and values: those of the past `[b, g, past, k]`, and with the new ones after the block ran."""

    def __init__(self, step: Step, key: Tensor, value: Tensor) -> None:
        self.step = step
        self.key, self.value = key, value


class Past:
    """The cache of a traced call, as `Trunk.run` hands it to the blocks."""

    def __init__(self, step: Step, tensors: list[Tensor]) -> None:
        pairs = zip(tensors[0::2], tensors[1::2], strict=True)
        self.layers = [LayerPast(step, key, value) for key, value in pairs]

    @property
    def tensors(self) -> list[Tensor]:
        """Keys and values of each block in turn."""
        return [tensor for layer in self.layers for tensor in (layer.key, layer.value)]


class FusedCore:
    """Everything between the projections of an attention in one operator (GroupQueryAttention).

    It rotates queries and keys, appends to the cache (in place where the caller gives one buffer for past and present)
    and attends. Takes the place of `Attention.core`.
    """

    def __init__(self, attention: Attention) -> None:
        config = attention.config
        self._rotated, self._local = attention.rotated, attention.local
        self._rotates_itself = attention.rotated and config.rotary_dim % ROTATED_TOGETHER == 0
        self._options: dict[str, Any] = {
            "num_heads": config.heads,
            "kv_num_heads": config.kv_heads,
            "scale": attention.scale,
            "softcap": config.attention_cap,
            "do_rotary": int(self._rotates_itself),
            "local_window_size": config.window if attention.windowed else -1,
        }

    def __call__(self, q_bthk: Tensor, k_btgk: Tensor, v_btgk: Tensor, _sight: object, past: Any) -> Tensor:
        """Queries, keys and values to what each token gathers, `[b, t, h, k]`; `past` then holds the new ones, too."""
        assert isinstance(past, LayerPast)
        step = past.step
        tables = (step.local_tables if self._local else step.tables) if self._rotated else None
        if tables is not None and not self._rotates_itself:
            cos_sin = tables.at(step.positions_bt)
            q_bthk, k_btgk, tables = apply_rotary(q_bthk, cos_sin), apply_rotary(k_btgk, cos_sin), None
        batch, groups, _, head_dim = past.key.shape
        whole = (batch, groups, step.bias_b1ts.shape[-1], head_dim)
        inputs = (
            q_bthk.flatten(2),
            k_btgk.flatten(2),
            v_btgk.flatten(2),
            past.key,
            past.value,
            step.last_b,
            step.total,
            *((None, None, None) if tables is None else (*tables, step.positions_bt)),
            step.bias_b1ts,
            *[None] * 5,  # attention sinks, scales of a rounded cache, norms of queries and keys
            step.new_b,
        )
        y_btd, past.key, past.value = ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            inputs,
            self._options,
            dtypes=[q_bthk.dtype] * 3,
            shapes=[q_bthk.flatten(2).shape, whole, whole],
            version=1,
        )
        y_bthk: Tensor = y_btd.unflatten(-1, q_bthk.shape[2:])
        return y_bthk


def _operator(
    name: str, inputs: tuple[Tensor | None, ...], options: dict[str, Any], dtype: torch.dtype, shape: tuple[int, ...]
) -> Tensor:
    result: Tensor = ops.symbolic(f"com.microsoft::{name}", inputs, options, dtype=dtype, shape=shape, version=1)
    return result
