"""A decoder as one ONNX graph with its cache outside: what came in before goes in again, with the new tokens.

    input_ids       [batch, sequence]             int64
    attention_mask  [batch, past + sequence]      int64, 0 where a sequence is only padding (at its left)
    past_key_values.N.key, .value                 fp32 [batch, kv_heads, past, head_dim], past may be 0
    -> logits       [batch, sequence, vocab]      fp32
    -> present.N.key, .value                      fp32 [batch, kv_heads, past + sequence, head_dim]

Positions follow from the mask. The graph is traced from the `Decoder` itself; attention, and products with rounded
matrices, become ONNX Runtime's own operators (see `operators.py`).

Shape legend: b batch, t new tokens, s tokens with the past.
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from tinyslm.export.onnx.blocks import BLOCK, round_matrix
from tinyslm.export.onnx.genai import longest
from tinyslm.export.onnx.operators import BlockEmbedding, BlockLinear, FusedCore, Past, Step, Tables
from tinyslm.inspection.importance import Importance
from tinyslm.model.attention import Attention
from tinyslm.model.attention_context import AttentionContext
from tinyslm.model.decoder import Cache, Decoder
from tinyslm.model.rotary import SHORT, Rotary

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

OPSET = 23
"""The first with RMSNormalization as one operator."""
LARGEST_FILE = 2**28
"""Weights of more bytes than this go to a file next to the graph. 2**31 is the most that one file can hold, and writing
one takes a copy of all weights in memory."""
HIDDEN = -1e9
"""Added to the products with padding. Finite, so that a row of padding that sees nothing else is not NaN."""


def write_graph(decoder: Decoder, bits: int, path: Path, importance: Importance | None = None) -> list[str]:
    """Write the graph to `path`, its weights rounded to `bits` bits (32: as they are).

    importance: how much each column of a weight matters, by its name in the `Decoder`; all alike where it has none.
    Large weights go to a file of the same name with `.data` added. Returns what could not be rounded in the usual way.
    """
    import onnx_ir

    made, notes = _replaced(decoder, bits, importance or {})
    model = _traced(Graph(made)).model
    model.producer_name, model.producer_version = "tinyslm", None
    onnx_ir.passes.common.ClearMetadataAndDocStringPass()(model)
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    onnx_ir.save(model, path, external_data=f"{path.name}.data" if weights > LARGEST_FILE else None)
    return notes


def cache_names(depth: int, prefix: str) -> list[str]:
    """Names of the inputs ("past_key_values") or outputs ("present") that hold the cache, in order."""
    return [f"{prefix}.{layer}.{part}" for layer in range(depth) for part in ("key", "value")]


class Graph(nn.Module):
    """What is traced: a decoder in which `FusedCore` stands for the core of each attention."""

    cos: Tensor | None
    sin: Tensor | None
    local_cos: Tensor | None
    local_sin: Tensor | None

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder
        trunk = decoder.model
        for name, rotary in (("", trunk.rotary), ("local_", trunk.local_rotary)):
            cos, sin = _tables(rotary, longest(decoder.config)) if rotary else (None, None)
            self.register_buffer(f"{name}cos", cos, persistent=False)
            self.register_buffer(f"{name}sin", sin, persistent=False)
        for module in trunk.modules():
            if isinstance(module, Attention):
                module.core = FusedCore(module)  # type: ignore[method-assign, assignment]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, past: list[Tensor]) -> tuple[Tensor, ...]:
        """Token ids and the cache to logits and the longer cache."""
        cache = Past(self._step(input_ids, attention_mask), past)
        attn = AttentionContext(cache.layers[0].step.positions_bt)
        # The blocks only hand the cache on, to `FusedCore`.
        hidden_btd = self.decoder.model.run(input_ids, attn, cast(Cache, cache))
        return self.decoder.logits(hidden_btd), *cache.tensors

    def _step(self, input_ids: Tensor, attention_mask: Tensor) -> Step:
        batch, new = input_ids.shape
        total = attention_mask.shape[1]
        hidden_bs = torch.where(attention_mask.bool(), 0.0, HIDDEN)
        return Step(
            last_b=torch.full((batch,), total - 1, dtype=torch.int32),
            total=torch.full((1,), total, dtype=torch.int32),
            new_b=torch.full((batch,), new, dtype=torch.int32),
            positions_bt=(attention_mask.cumsum(1) - 1).clamp(min=0)[:, total - new :],
            bias_b1ts=hidden_bs[:, None, None].expand(-1, -1, new, -1),
            tables=_pair(self.cos, self.sin),
            local_tables=_pair(self.local_cos, self.local_sin),
        )


def _pair(cos: Tensor | None, sin: Tensor | None) -> Tables | None:
    return None if cos is None or sin is None else Tables(cos, sin)


def _tables(rotary: Rotary, length: int) -> Tables:
    """Cosines and sines at every position, `[length, r / 2]`."""
    cos_sin = rotary(torch.arange(length)[None], SHORT)
    half = cos_sin.cos.shape[-1] // 2
    return Tables(cos_sin.cos[0, :, 0, :half].contiguous(), cos_sin.sin[0, :, 0, half:].contiguous())


def _replaced(decoder: Decoder, bits: int, importance: Importance) -> tuple[Decoder, list[str]]:
    """A decoder to trace: it shares the given one's weights, but for those that are rounded."""
    tensors = chain(decoder.parameters(), decoder.buffers())
    made = copy.deepcopy(decoder, {id(tensor): tensor for tensor in tensors})
    if bits == 32:
        return made, []
    notes = []

    def rounded(name: str, weight: Tensor, bias: Tensor | None) -> BlockLinear:
        matters = importance.get(f"{name}.weight")
        if weight.shape[1] % BLOCK:
            notes.append(f"{name}: rows of {weight.shape[1]} fill no whole blocks of {BLOCK}; the last is filled up")
        blocks = round_matrix(weight, bits, None if matters is None else torch.from_numpy(matters.copy()))
        return BlockLinear(blocks, bias)

    table = rounded(
        "model.embed_tokens", made.model.embed_tokens.weight, made.lm_head.bias if made.config.tied else None
    )
    for name, module in list(made.named_modules()):
        if isinstance(module, nn.Linear):
            shared = module is made.lm_head and made.config.tied
            made.set_submodule(name, table if shared else rounded(name, module.weight, module.bias))
    made.model.set_submodule("embed_tokens", BlockEmbedding(table))
    if made.model.embed_positions is not None:
        notes.append("model.embed_positions: stays in fp32")
    return made, notes


def _traced(graph: Graph) -> "ONNXProgram":
    """The graph as ONNX, dynamic in batch, new tokens and past."""
    config = graph.decoder.config
    batch, new, past = 2, 3, 5  # any sizes, but all different and none of them 0 or 1, which would become fixed
    shape = (batch, config.kv_heads, past, config.head_dim)
    ids = torch.zeros(batch, new, dtype=torch.int64)
    mask = torch.ones(batch, past + new, dtype=torch.int64)
    caches = [torch.zeros(shape) for _ in range(2 * config.depth)]
    sizes: list[Any] = [{0: "batch", 2: "past"}] * len(caches)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph.eval(),
            (ids, mask, caches),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=({0: "batch", 1: "sequence"}, {0: "batch", 1: "total"}, sizes),
            input_names=["input_ids", "attention_mask", *cache_names(config.depth, "past_key_values")],
            output_names=["logits", *cache_names(config.depth, "present")],
            verbose=False,
        )
    assert program is not None
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch's exporter says of itself: deprecations inside it, operators of libraries not installed."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)
            yield
    finally:
        logger.setLevel(level)
