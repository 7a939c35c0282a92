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
from tinyslm.model.decoder import Block, Decoder, shaped
from tinyslm.model.packed import PackedEmbedding, PackedLinear
from tinyslm.model.rotary import Rotary

Array = NDArray[Any]  # of fp32
Function = Callable[[Array], Array]
Turns = tuple[Function, Function]
"""The rotation in most blocks, and in windowed ones with frequencies of their own."""

MOST_ROWS = 8
"""Beyond this, PyTorch's matrix products win (measured)."""


def suits(model: Decoder, rows: int) -> bool:
    """Whether this way of taking a step is possible and likely to be the faster one."""
    return model.device.type == "cpu" and model.dtype == torch.float32 and rows <= MOST_ROWS


class NumpyStep:
    """`step(ids, cache)`: logits after one more token in each sequence of a batch."""

    def __init__(self, model: Decoder) -> None:
        trunk = model.model
        self._config = model.config
        self._embed = _embedding(trunk.embed_tokens)
        self._positions = None if trunk.embed_positions is None else _array(trunk.embed_positions.weight)
        self._turn, self._local_turn = _turns(trunk.rotary), _turns(trunk.local_rotary)
        self._blocks = [_block(block) for block in trunk.layers]
        self._norm = _norm(trunk.norm)
        self._head = _linear(model.lm_head)

    def __call__(self, ids: Sequence[int], cache: KVCache) -> torch.Tensor:
        """Take in one token id for each sequence; returns logits `[b, v]`."""
        position = cache.length
        x_bd = self._embed(ids)
        if self._config.embedding_scale != 1:
            x_bd = x_bd * np.float32(self._config.embedding_scale)
        if self._positions is not None:
            x_bd = x_bd + self._positions[position]
        turns = self._turn(position), self._local_turn(position)
        with np.errstate(over="ignore"):  # exp(-x) of a very negative gate is infinite, which closes it as it should
            for block, layer in zip(self._blocks, cache.layers, strict=True):
                x_bd = block(x_bd, turns, layer)
        return shaped(torch.from_numpy(self._head(self._norm(x_bd))), self._config)


def _turns(rotary: Rotary | None) -> Callable[[int], Function]:
    """The rotation of queries and keys `[b, h, k]`, by position."""
    if rotary is None:
        return lambda position: _same
    frequencies, scale = _array(rotary.frequencies), np.float32(rotary.scale)

    def at(position: int) -> Function:
        grown = rotary.grown(position + 1)
        angles = np.float32(position) * (frequencies if grown is None else _array(grown))
        cos, sin = np.cos(angles) * scale, np.sin(angles) * scale
        return _turn(np.concatenate([cos, cos]), np.concatenate([-sin, sin]))

    return at


def _turn(cos_r: Array, sin_r: Array) -> Function:
    half, r = len(cos_r) // 2, len(cos_r)

    def turned(x: Array) -> Array:
        swapped = np.concatenate([x[..., half:r], x[..., :half]], -1)
        y: Array = x[..., :r] * cos_r + swapped * sin_r
        return y if r == x.shape[-1] else np.concatenate([y, x[..., r:]], -1)

    return turned


def _block(block: Any) -> Callable[[Array, Turns, LayerKV], Array]:
    assert isinstance(block, Block)
    config = block.config
    norms = [_norm(getattr(block, name)) if name else _same for name in block.norms]
    before_attention, after_attention, before_mlp, after_mlp = norms
    attention, mlp = _attention(block.self_attn), _feed_forward(block.mlp)
    scale, serial = np.float32(config.residual_scale), config.residual == "serial"

    def run(x_bd: Array, turns: Turns, layer: LayerKV) -> Array:
        gathered = x_bd + after_attention(attention(before_attention(x_bd), turns, layer)) * scale
        read = gathered if serial else x_bd
        y_bd: Array = gathered + after_mlp(mlp(before_mlp(read))) * scale
        return y_bd

    return run


def _attention(module: Attention) -> Callable[[Array, Turns, LayerKV], Array]:
    config = module.config
    project_q, project_k, project_v = _linear(module.q_proj), _linear(module.k_proj), _linear(module.v_proj)
    project_out = _linear(module.o_proj)
    norm_q = _norm(module.q_norm) if config.qk_norm else _same
    norm_k = _norm(module.k_norm) if config.qk_norm else _same
    by_head = config.qk_norm_over == "head"
    g, r, k = config.kv_heads, config.heads // config.kv_heads, config.head_dim
    scale = np.float32(module.scale)
    window = config.window if module.windowed else 0

    def run(x_bd: Array, turns: Turns, layer: LayerKV) -> Array:
        b = len(x_bd)
        turn = (turns[1] if module.local else turns[0]) if module.rotated else _same
        q, keys = project_q(x_bd), project_k(x_bd)
        q_bhk = norm_q(q.reshape(b, g * r, k)) if by_head else norm_q(q).reshape(b, g * r, k)
        k_bgk = norm_k(keys.reshape(b, g, k)) if by_head else norm_k(keys).reshape(b, g, k)
        q_bgrk = turn(q_bhk).reshape(b, g, r, k) * scale
        keys_bgsk, values_bgsk = layer.extend_arrays(turn(k_bgk), project_v(x_bd).reshape(b, g, k))
        if window:
            keys_bgsk, values_bgsk = keys_bgsk[:, :, -window:], values_bgsk[:, :, -window:]
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
        opened = _silu if module.kind == "swiglu" else _gelu_tanh
        return lambda x_bd: down(opened(gate(x_bd)) * up(x_bd))
    gelu = _gelu_tanh if module.approximate == "tanh" else _gelu
    return lambda x_bd: down(gelu(up(x_bd)))


def _silu(x: Array) -> Array:
    y: Array = x / (1 + np.exp(-x))
    return y


def _gelu_tanh(x: Array) -> Array:
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    y: Array = np.float32(0.5) * x * (1 + np.tanh(inner))
    return y


def _gelu(x: Array) -> Array:
    """NumPy has no error function; PyTorch's works on the same memory."""
    y: Array = nn.functional.gelu(torch.from_numpy(x)).numpy()
    return y


def _norm(module: Any) -> Function:
    layer = isinstance(module, nn.LayerNorm)
    weight, eps = _array(module.weight if layer else module.scale), np.float32(module.eps)
    size = np.float32(len(weight))
    if not layer:
        return lambda x: x * (weight / np.sqrt(np.add.reduce(x * x, -1, keepdims=True) / size + eps))
    bias = _array(module.bias)

    def layer_norm(x: Array) -> Array:
        centred = x - np.add.reduce(x, -1, keepdims=True) / size
        deviation = np.sqrt(np.add.reduce(centred * centred, -1, keepdims=True) / size + eps)
        y: Array = centred / deviation * weight + bias
        return y

    return layer_norm


def _embedding(module: Any) -> Callable[[Sequence[int]], Array]:
    if isinstance(module, PackedEmbedding):
        return lambda ids: module(torch.tensor(ids)).numpy()
    table = _array(module.weight)
    return lambda ids: table[list(ids)]


def _linear(module: Any) -> Function:
    if isinstance(module, PackedLinear):
        return module.on_arrays()
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
