"""One token more, on a CPU: the decoder's arithmetic in NumPy.

For a handful of rows, PyTorch spends most of a small model's step on dispatching its operations. NumPy's overhead is a
fraction of that, and its matrix-vector products are faster. The weights and the KV cache are PyTorch's own memory.

Shape legend: b batch, d dim, h heads, g kv_heads, r = h / g, k head_dim, s tokens so far, v vocab_size.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tinyslm.inference.cache import KVCache, LayerKV
from tinyslm.model.attention import Attention
from tinyslm.model.decoder import Block, Decoder

Array = NDArray[Any]  # of fp32
Function = Callable[[Array], Array]

MOST_ROWS = 8
"""Beyond this, PyTorch's matrix products win (measured)."""


def suits(model: Decoder, rows: int) -> bool:
    """Whether this way of taking a step is possible and likely to be the faster one."""
    weight = model.lm_head.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and rows <= MOST_ROWS


class NumpyStep:
    """`step(ids, cache)`: logits after one more token in each sequence of a batch."""

    def __init__(self, model: Decoder) -> None:
        trunk = model.model
        self._embedding = _array(trunk.embed_tokens.weight)
        self._positions = None if trunk.embed_positions is None else _array(trunk.embed_positions.weight)
        self._cos = None if trunk.rotary is None else _array(trunk.rotary.cos)
        self._sin = None if trunk.rotary is None else _array(trunk.rotary.sin)
        self._blocks = [_block(block) for block in trunk.layers]
        self._norm = _norm(trunk.norm)
        self._head = _linear(model.lm_head)

    def __call__(self, ids: Sequence[int], cache: KVCache) -> torch.Tensor:
        """Take in one token id for each sequence; returns logits `[b, v]`."""
        position = cache.length
        x_bd = self._embedding[list(ids)]
        if self._positions is not None:
            x_bd = x_bd + self._positions[position]
        turn = self._turn(position)
        with np.errstate(over="ignore"):  # exp(-x) of a very negative gate is infinite, which closes it as it should
            for block, layer in zip(self._blocks, cache.layers, strict=True):
                x_bd = block(x_bd, turn, layer)
        return torch.from_numpy(self._head(self._norm(x_bd)))

    def _turn(self, position: int) -> Function:
        """The rotation of queries and keys `[b, h, k]` at a position."""
        if self._cos is None or self._sin is None:
            return lambda x: x
        cos_k, sin = self._cos[position], self._sin[position]
        half = len(sin)
        sin_k = np.concatenate([-sin, sin])

        def turn(x_bhk: Array) -> Array:
            swapped = np.concatenate([x_bhk[..., half:], x_bhk[..., :half]], -1)
            turned: Array = x_bhk * cos_k + swapped * sin_k
            return turned

        return turn


def _block(block: Any) -> Callable[[Array, Function, LayerKV], Array]:
    assert isinstance(block, Block)
    before_attention, before_mlp = _norm(block.input_layernorm), _norm(block.post_attention_layernorm)
    attention, mlp = _attention(block.self_attn), _feed_forward(block.mlp)

    def run(x_bd: Array, turn: Function, layer: LayerKV) -> Array:
        x_bd = x_bd + attention(before_attention(x_bd), turn, layer)
        return x_bd + mlp(before_mlp(x_bd))

    return run


def _attention(module: Attention) -> Callable[[Array, Function, LayerKV], Array]:
    config = module.config
    project_q, project_k, project_v = _linear(module.q_proj), _linear(module.k_proj), _linear(module.v_proj)
    project_out = _linear(module.o_proj)
    norm_q = _norm(module.q_norm) if config.qk_norm else _same
    norm_k = _norm(module.k_norm) if config.qk_norm else _same
    g, r, k = config.kv_heads, config.heads // config.kv_heads, config.head_dim
    scale = np.float32(k**-0.5)

    def run(x_bd: Array, turn: Function, layer: LayerKV) -> Array:
        b = len(x_bd)
        q_bgrk = turn(norm_q(project_q(x_bd).reshape(b, g * r, k))).reshape(b, g, r, k) * scale
        k_bgk = turn(norm_k(project_k(x_bd).reshape(b, g, k)))
        keys_bgsk, values_bgsk = layer.extend_arrays(k_bgk, project_v(x_bd).reshape(b, g, k))
        scores_bgrs = q_bgrk @ keys_bgsk.swapaxes(-1, -2)
        scores_bgrs -= scores_bgrs.max(-1, keepdims=True)
        p_bgrs = np.exp(scores_bgrs, out=scores_bgrs)
        p_bgrs /= np.add.reduce(p_bgrs, -1, keepdims=True)
        return project_out((p_bgrs @ values_bgsk).reshape(b, -1))

    return run


def _feed_forward(module: Any) -> Function:
    up, down = _linear(module.up_proj), _linear(module.down_proj)
    if hasattr(module, "gate_proj"):
        gate = _linear(module.gate_proj)

        def gated(x_bd: Array) -> Array:
            gate_bf = gate(x_bd)
            return down(gate_bf / (1 + np.exp(-gate_bf)) * up(x_bd))

        return gated
    gelu = _gelu_tanh if module.approximate == "tanh" else _gelu
    return lambda x_bd: down(gelu(up(x_bd)))


def _gelu_tanh(x: Array) -> Array:
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    y: Array = np.float32(0.5) * x * (1 + np.tanh(inner))
    return y


def _gelu(x: Array) -> Array:
    """NumPy has no error function; PyTorch's works on the same memory."""
    y: Array = nn.functional.gelu(torch.from_numpy(x)).numpy()
    return y


def _norm(module: Any) -> Function:
    weight, eps = _array(module.weight), np.float32(module.eps)
    size = np.float32(len(weight))
    if not isinstance(module, nn.LayerNorm):
        return lambda x: x * (weight / np.sqrt(np.add.reduce(x * x, -1, keepdims=True) / size + eps))
    bias = _array(module.bias)

    def layer_norm(x: Array) -> Array:
        centred = x - np.add.reduce(x, -1, keepdims=True) / size
        deviation = np.sqrt(np.add.reduce(centred * centred, -1, keepdims=True) / size + eps)
        y: Array = centred / deviation * weight + bias
        return y

    return layer_norm


def _linear(module: Any) -> Function:
    transposed = _array(module.weight).T
    if module.bias is None:
        return lambda x: x @ transposed
    bias = _array(module.bias)
    return lambda x: x @ transposed + bias


def _same(x: Array) -> Array:
    return x


def _array(tensor: torch.Tensor) -> Array:
    """The tensor's own memory as an array."""
    array: Array = tensor.detach().numpy()
    return array
