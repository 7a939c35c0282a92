"""A decoder as a program for step.cpp: a list of operations on buffers of rows, and its weights in tiles.

The structures here repeat those of step.cpp and linear.h.
"""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_float, c_int32, c_void_p
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from tinyslm.inference.native.memory import Memory
from tinyslm.inference.native.tiles import Format, Tiles, tiles
from tinyslm.model.attention import Attention
from tinyslm.model.decoder import Block, Decoder
from tinyslm.model.lora import merged_weight
from tinyslm.model.rotary import Rotary

EMBED, NORM, LINEAR, TURN, NARROW, STORE, ATTEND, ACT, SHAPE = range(9)
ACTIVATIONS = {"swiglu": 0, "gelu": 1, "gelu_tanh": 2, "geglu": 2, "relu": 3}
"""By kind of feed-forward: an `Activation` of rows.h."""
NONE = -1


class Matrix(ctypes.Structure):
    """`Matrix` of linear.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("codes", "scales", "bias")),
        *((name, c_int32) for name in ("format", "inputs", "outputs", "group", "source", "target")),
    ]


class Op(ctypes.Structure):
    """`Op` of step.cpp."""

    _fields_ = [
        *((name, c_int32) for name in ("kind", "source", "other", "target", "narrow_target", "width", "segments")),
        *((name, c_int32) for name in ("first", "count", "layer", "mode", "adds", "wanted", "window")),
        *((name, c_float) for name in ("eps", "factor", "limit")),
        *((name, c_void_p) for name in ("a", "b")),
    ]


class Header(ctypes.Structure):
    """`Program` of step.cpp."""

    _fields_ = [
        ("ops", POINTER(Op)),
        ("matrices", POINTER(Matrix)),
        ("widths", POINTER(c_int32)),
        ("keys", c_void_p),
        ("values", c_void_p),
        *((name, c_int32) for name in ("op_count", "matrix_count", "buffer_count", "result", "heads", "kv_heads")),
        *((name, c_int32) for name in ("head_dim", "vocab_size", "blocks", "layers", "narrow_cache")),
        *((name, c_int32) for name in ("longest", "threads", "most_rows")),
    ]


@dataclass(frozen=True)
class Program:
    """Operations, matrices and the widths of the buffers (negative: of bf16).

    result: the buffer that a run fills for its caller. held: the memory that the operations point to.
    """

    ops: list[Op]
    matrices: list[Matrix]
    widths: list[int]
    result: int
    held: list[Any]


def compiled(model: Decoder, precision: Format, *, narrow_inputs: bool, longest: int, memory: Memory) -> Program:
    """The program that computes the logits of wanted rows.

    precision: of matrices that are not packed, FP32 or BF16; keys and values have it too. narrow_inputs: whether
    matrices in bf16 and packed ones read bf16. longest: positions that there may be. memory: where the tiles go.
    """
    writer = _Writer(precision, narrow_inputs, memory)
    trunk = model.model
    writer.embed(model)
    turns = writer.turns(trunk.rotary, longest), writer.turns(trunk.local_rotary, longest)
    for layer, block in enumerate(trunk.layers):
        assert isinstance(block, Block)
        writer.block(block, layer, turns)
    head = [model.lm_head]
    writer.norm(trunk.norm, "x", "out", writer.formats(head), wanted=1)
    writer.linear(head, "out", ["logits"], wanted=1)
    config = model.config
    if config.logit_divisor != 1 or config.logit_cap:
        writer.op(SHAPE, target="logits", width=config.vocab_size, wanted=1,
                  factor=config.logit_divisor, limit=config.logit_cap)  # fmt: skip
    return writer.program("logits")


def without_head(program: Program, model: Decoder) -> Program:
    """The program that ends with the vectors that the output projection reads, in fp32."""
    end = next(i for i, op in enumerate(program.ops) if op.kind == NORM and op.wanted)
    norm = Op.from_buffer_copy(program.ops[end])
    result = len(program.widths)
    norm.target, norm.narrow_target = result, NONE
    return Program(
        [*program.ops[:end], norm], program.matrices, [*program.widths, model.config.dim], result, program.held
    )


Turns = tuple[Tensor, Tensor] | None
"""Cosines and sines by position, `[longest, r / 2]` each."""


class _Writer:
    """Writes operations one by one. Buffers have names; "NAME narrow" is NAME in bf16."""

    def __init__(self, precision: Format, narrow_inputs: bool, memory: Memory) -> None:
        self._precision, self._narrow_inputs, self._memory = precision, narrow_inputs, memory
        self._narrow_cache = precision == Format.BF16
        self._ops: list[Op] = []
        self._matrices: list[Matrix] = []
        self._buffers: dict[str, int] = {}
        self._widths: list[int] = []
        self._held: list[Any] = []

    def program(self, result: str) -> Program:
        return Program(self._ops, self._matrices, self._widths, self._buffers[result], self._held)

    def op(
        self, kind: int, *, source: str = "", other: str = "", target: str = "", narrow_target: str = "", **fields: Any
    ) -> None:
        """Append an operation; a width makes its targets known."""
        width = fields.get("width", 0) * fields.get("segments", 1)
        self._ops.append(Op(
            kind=kind,
            source=self._buffer(source),
            other=self._buffer(other),
            target=self._buffer(target, width),
            narrow_target=self._buffer(narrow_target, width),
            **{"segments": 1, "factor": 1.0, **fields},
        ))  # fmt: skip

    def _buffer(self, name: str, width: int = 0) -> int:
        if not name:
            return NONE
        if name not in self._buffers:
            assert width, name
            self._buffers[name] = len(self._widths)
            self._widths.append(-width if name.endswith(" narrow") else width)
        return self._buffers[name]

    def formats(self, linears: Sequence[nn.Module]) -> set[str]:
        """In which forms these matrices read their input: "" for fp32, " narrow" for bf16."""
        return {self._form(self._tiles_format(linear)) for linear in linears}

    def _form(self, kind: Format) -> str:
        return " narrow" if self._narrow_inputs and kind != Format.FP32 else ""

    def _tiles_format(self, linear: Any) -> Format:
        bits = getattr(linear, "bits", 0) if linear.adapter is None else 0  # an adapter is merged
        return {0: self._precision, 8: Format.INT8, 4: Format.INT4}[bits]

    def embed(self, model: Decoder) -> None:
        """x = the tokens' rows, with learned positions where there are such."""
        module, positions = model.model.embed_tokens, model.model.embed_positions
        table = merged_weight(module)
        table = table if table.dtype in (torch.float32, torch.bfloat16) else table.float()
        mode = Format.FP32 if table.dtype == torch.float32 else Format.BF16
        self._buffer("x", model.config.dim)
        self.op(
            EMBED, target="x", width=model.config.dim, mode=mode, factor=model.config.embedding_scale,
            a=self._hold(table.contiguous()),
            b=None if positions is None else self._hold(positions.weight.detach().float().contiguous()),
        )  # fmt: skip

    def turns(self, rotary: Rotary | None, longest: int) -> Turns:
        """The rotations of all positions."""
        if rotary is None:
            return None
        angles = torch.arange(longest).float()[:, None] * rotary.frequencies
        return (angles.cos() * rotary.scale).contiguous(), (angles.sin() * rotary.scale).contiguous()

    def block(self, block: Block, layer: int, turns: tuple[Turns, Turns]) -> None:
        """x += attention, then x += feed-forward."""
        before_attention, after_attention, before_mlp, after_mlp = (
            getattr(block, name) if name else None for name in block.norms
        )
        attention, mlp, scale = block.self_attn, cast(Any, block.mlp), block.config.residual_scale
        reads = [attention.q_proj, attention.k_proj, attention.v_proj]
        opens = [mlp.gate_proj, mlp.up_proj] if hasattr(mlp, "gate_proj") else [mlp.up_proj]
        parallel = block.config.residual != "serial"
        attention_input = self._normed(before_attention, "a", reads)
        mlp_input = self._normed(before_mlp, "b", opens) if parallel else ""
        self._attention(attention, layer, attention_input, turns)
        self._into_stream(attention.o_proj, "gathered", after_attention, scale)
        mlp_input = mlp_input or self._normed(before_mlp, "a", opens)
        self._feed_forward(mlp, opens, mlp_input)
        self._into_stream(mlp.down_proj, "h", after_mlp, scale)

    def _normed(self, norm: Any, name: str, readers: Sequence[nn.Module]) -> str:
        """The buffer with the normalised stream; the stream itself where there is no norm."""
        forms = self.formats(readers)
        if norm is not None:
            self.norm(norm, "x", name, forms)
            return name
        if " narrow" in forms:
            self.op(NARROW, source="x", narrow_target="x narrow", width=abs(self._widths[self._buffers["x"]]))
        return "x"

    def norm(self, norm: Any, source: str, target: str, forms: set[str], **fields: Any) -> None:
        """target = norm(source), in these forms."""
        layer = isinstance(norm, nn.LayerNorm)
        weight = (norm.weight if layer else norm.scale).detach().float().contiguous()
        segments = fields.pop("segments", 1)
        self.op(
            NORM, source=source, target=target if "" in forms else "",
            narrow_target=target + " narrow" if " narrow" in forms else "",
            width=len(weight), segments=segments, mode=int(layer), eps=norm.eps, a=self._hold(weight),
            b=self._hold(norm.bias.detach().float().contiguous()) if layer else None, **fields,
        )  # fmt: skip

    def linear(self, linears: Sequence[nn.Module], source: str, targets: Sequence[str], **fields: Any) -> None:
        """Products of one input with several matrices."""
        first = len(self._matrices)
        for linear, target in zip(linears, targets, strict=True):
            matrix: Tiles = tiles(linear, self._precision, self._memory)
            self._held.append(matrix)
            self._matrices.append(Matrix(
                codes=matrix.codes.data_ptr(),
                scales=None if matrix.scales is None else matrix.scales.data_ptr(),
                bias=None if matrix.bias is None else matrix.bias.data_ptr(),
                format=matrix.format, inputs=matrix.inputs, outputs=matrix.outputs, group=matrix.group,
                source=self._buffer(source + self._form(matrix.format)), target=self._buffer(target, matrix.outputs),
            ))  # fmt: skip
        self.op(LINEAR, first=first, count=len(linears), **fields)

    def _into_stream(self, linear: Any, source: str, norm: Any, scale: float) -> None:
        """x += scale * norm(linear(source))."""
        if norm is None:
            self.linear([linear], source, ["x"], adds=1, factor=scale)
            return
        self.linear([linear], source, ["y"])
        self.norm(norm, "y", "x", {""}, adds=1, factor=scale)

    def _attention(self, module: Attention, layer: int, source: str, turns: tuple[Turns, Turns]) -> None:
        """gathered = what each row gathers from its sequence."""
        config = module.config
        self.linear([module.q_proj, module.k_proj, module.v_proj], source, ["q", "k", "v"])
        if config.qk_norm:
            heads, kv_heads = (config.heads, config.kv_heads) if config.qk_norm_over == "head" else (1, 1)
            self.norm(module.q_norm, "q", "q", {""}, segments=heads)
            self.norm(module.k_norm, "k", "k", {""}, segments=kv_heads)
        turn = turns[1] if module.local else turns[0]
        if module.rotated and turn is not None:
            cosines, sines = self._hold(turn[0]), self._hold(turn[1])
            for name, heads in (("q", config.heads), ("k", config.kv_heads)):
                self.op(
                    TURN, source=name, width=config.head_dim, segments=heads, mode=config.rotary_dim, a=cosines, b=sines
                )
        self.op(STORE, source="k", other="v", layer=layer)
        query, width = "q", config.heads * config.head_dim
        if self._narrow_cache and self._narrow_inputs:
            query = "q narrow"
            self.op(NARROW, source="q", narrow_target=query, width=width)
        forms = self.formats([module.o_proj])
        self.op(
            ATTEND, source=query, width=width, layer=layer, factor=module.scale,
            target="gathered" if "" in forms else "", narrow_target="gathered narrow" if " narrow" in forms else "",
            window=config.window if module.windowed else 0, limit=config.attention_cap,
        )  # fmt: skip

    def _feed_forward(self, mlp: Any, opens: Sequence[nn.Module], source: str) -> None:
        """h = what the last product of the feed-forward reads."""
        names = ["gate", "up"][-len(opens) :]
        self.linear(opens, source, names)
        gated = len(opens) == 2
        forms = self.formats([mlp.down_proj])
        self.op(
            ACT, source=names[0], other="up" if gated else "", mode=ACTIVATIONS[mlp.kind], width=opens[0].out_features,
            target="h" if "" in forms else "", narrow_target="h narrow" if " narrow" in forms else "",
        )  # fmt: skip

    def _hold(self, tensor: Tensor) -> int:
        self._held.append(tensor)
        return tensor.data_ptr()
