"""Causal attention for training in compiled code.

Shape legend: b batch, h heads, g key-value heads, t sequence, k head_dim.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from tinyslm.model.kernels.library import at_hand, call

MULTIPLE = 16
"""Of this is `head_dim`."""


class Shape(ctypes.Structure):
    """`attention::Shape` of attention.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "heads", "kv_heads", "length", "head_dim")),
        *((name, ctypes.c_int64 * 3) for name in ("q", "k", "v", "y", "dy", "dq", "dk", "dv")),
        ("scale", ctypes.c_float),
    )


def suits(q_bhtk: Tensor) -> bool:
    """Whether compiled attention is for these queries."""
    return q_bhtk.shape[-1] % MULTIPLE == 0 and at_hand(q_bhtk.dtype, q_bhtk)


class KernelAttention(torch.autograd.Function):
    """softmax(scale * q k^T) v; keeps its inputs, its output, and one number for each row."""

    @staticmethod
    def forward(ctx: Any, q_bhtk: Tensor, k_bgtk: Tensor, v_bgtk: Tensor, scale: float) -> Tensor:
        """Queries `[b, h, t, k]`, keys and values `[b, g, t, k]` to `[b, h, t, k]`."""
        q_bhtk, k_bgtk, v_bgtk = (_dense_rows(x) for x in (q_bhtk, k_bgtk, v_bgtk))
        y_bhtk = _like(q_bhtk)
        log_bht = torch.empty(q_bhtk.shape[:3], dtype=torch.float32)
        shape = _shape(scale, q=q_bhtk, k=k_bgtk, v=v_bgtk, y=y_bhtk)
        call("tinyslm_attention", q_bhtk.dtype, shape, q_bhtk, k_bgtk, v_bgtk, y_bhtk, log_bht)
        ctx.save_for_backward(q_bhtk, k_bgtk, v_bgtk, y_bhtk, log_bht)
        ctx.scale = scale
        return y_bhtk

    @staticmethod
    def backward(ctx: Any, dy_bhtk: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """The gradients of queries, keys and values."""
        q_bhtk, k_bgtk, v_bgtk, y_bhtk, log_bht = ctx.saved_tensors
        dy_bhtk = _dense_rows(dy_bhtk)
        dq_bhtk, dk_bgtk, dv_bgtk = _like(q_bhtk), _like(k_bgtk), _like(v_bgtk)
        rows = {"q": q_bhtk, "k": k_bgtk, "v": v_bgtk, "y": y_bhtk, "dy": dy_bhtk}
        shape = _shape(ctx.scale, **rows, dq=dq_bhtk, dk=dk_bgtk, dv=dv_bgtk)
        call(
            "tinyslm_attention_back",
            q_bhtk.dtype,
            *(shape, q_bhtk, k_bgtk, v_bgtk, y_bhtk, log_bht, dy_bhtk, dq_bhtk, dk_bgtk, dv_bgtk),
        )
        return dq_bhtk, dk_bgtk, dv_bgtk, None


def _shape(scale: float, **tensors: Tensor) -> Shape:
    b, h, t, k = tensors["q"].shape
    shape = Shape(b, h, tensors["k"].shape[1], t, k, scale=scale)
    for name, x in tensors.items():
        setattr(shape, name, (ctypes.c_int64 * 3)(*x.stride()[:3]))
    return shape


def _dense_rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _like(x_bhtk: Tensor) -> Tensor:
    """Memory for the same shape that lies as [b, t, h, k], as projections write and read it."""
    b, h, t, k = x_bhtk.shape
    return torch.empty(b, t, h, k, dtype=x_bhtk.dtype).transpose(1, 2)
