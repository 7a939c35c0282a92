"""Ablation: switch off parts of a model, one by one or together, and compute what it predicts without them.

Shape legend: r rows (of parts, then of sequences), b batch, t sequence, d dim, h heads.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tinyslm.inspection.attention import twin_of
from tinyslm.inspection.residual import writers
from tinyslm.model.attention import Attention
from tinyslm.model.attention_context import causal_mask, token_positions
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Block, Decoder
from tinyslm.tokenizer.tokenizer import Tokenizer

MOST_TOKENS = 4096
"""Tokens that are computed at once."""


@dataclass(frozen=True)
class Part:
    """A part of a block (`layer`, from 1) that can be switched off: what it adds to the residual stream becomes zero.

    kind: one head of its attention (`head`, from 1), the whole attention, the feed-forward, or both ("layer"). Without
    a head, the others and the bias of the output product still add what they do.
    """

    layer: int
    kind: Literal["head", "attention", "feed-forward", "layer"]
    head: int = 0


def parts_of(config: ModelConfig, layer: int) -> list[Part]:
    """The parts of a block that can be switched off: its heads, then attention, feed-forward, and both."""
    heads = [Part(layer, "head", head) for head in range(1, config.heads + 1)]
    return [*heads, Part(layer, "attention"), Part(layer, "feed-forward"), Part(layer, "layer")]


def ablate(model: Decoder, parts: Sequence[Part]) -> Decoder:
    """A copy of the model with these parts switched off. It shares the weights; `model` is unchanged."""
    twin = twin_of(model)
    for part in parts:
        _switch(_block(twin, part.layer), [part], 1)
    return twin


@torch.inference_mode()
def ablate_each(model: Decoder, ids_bt: Tensor) -> Iterator[tuple[Part, Tensor]]:
    """For each part of a model: the part, and the final hidden states `[b, t, d]` computed without it.

    Blocks below the part are computed once, and several parts of a block together.
    """
    twin = twin_of(model)
    inputs: list[tuple[Any, ...]] = []
    handles = [block.register_forward_pre_hook(lambda _, given: inputs.append(given)) for block in twin.model.layers]
    twin.model(ids_bt)
    for handle in handles:
        handle.remove()
    together = max(1, MOST_TOKENS // ids_bt.numel())
    for layer, (x_btd, attn, _) in enumerate(inputs, 1):
        parts = parts_of(model.config, layer)
        for start in range(0, len(parts), together):
            some = parts[start : start + together]
            x_rtd = x_btd.repeat(len(some), 1, 1)
            switched = _switch(_block(twin, layer), some, len(x_btd))
            for block in twin.model.layers[layer - 1 :]:
                x_rtd = block(x_rtd, attn, None)
            for handle in switched:
                handle.remove()
            x_rtd = twin.model.norm(x_rtd)
            yield from zip(some, x_rtd.split(len(x_btd)), strict=True)


@torch.inference_mode()
def hide_position(model: Decoder, ids_bt: Tensor, position: int | None) -> Tensor:
    """Final hidden states `[b, t, d]` with the token at `position` (from 0) masked for all later ones.

    `None`: only the causal mask applies.
    """
    trunk, length, device = model.model, ids_bt.shape[1], ids_bt.device
    seen_tt = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    if position is not None:
        seen_tt[position + 1 :, position] = False
    window = causal_mask(length, model.config.window, None, device) if model.config.window else None
    masks = (seen_tt[None, None], seen_tt[None, None] if window is None else seen_tt & window)
    attn = trunk.attention_context(token_positions(length, None, device), *masks, length)
    hidden_btd: Tensor = trunk.run(ids_bt, attn)
    return hidden_btd


@torch.inference_mode()
def token_bits(model: Decoder, hidden_btd: Tensor, next_bt: Tensor) -> Tensor:
    """Bits that each next token costs, given the final hidden states before it: `[b, t]`."""
    rows = [
        functional.cross_entropy(model.logits(hidden_td).float(), next_t, reduction="none")
        for hidden_td, next_t in zip(hidden_btd, next_bt, strict=True)
    ]
    return torch.stack(rows) / math.log(2)


def token_sizes(tokenizer: Tokenizer, vocab_size: int) -> Tensor:
    """How many bytes of text each token stands for, `[v]`; 0 for special tokens."""
    special = set(tokenizer.special_ids.values())
    return torch.tensor([0 if one in special else len(tokenizer.token_bytes(one)) for one in range(vocab_size)])


def _block(model: Decoder, layer: int) -> Block:
    block = model.model.layers[layer - 1]
    assert isinstance(block, Block)
    return block


def _switch(block: Block, parts: Sequence[Part], each: int) -> list[Any]:
    """Switch off each part in its `each` rows, or in all rows if there is one part; returns the hooks' handles."""
    heads_ph = torch.ones(len(parts), block.config.heads)
    attention_p, mlp_p = torch.ones(len(parts)), torch.ones(len(parts))
    for row, part in enumerate(parts):
        if part.kind == "head":
            heads_ph[row, part.head - 1] = 0
        attention_p[row] = part.kind not in ("attention", "layer")
        mlp_p[row] = part.kind not in ("feed-forward", "layer")
    if len(parts) > 1:
        heads_ph, attention_p, mlp_p = (one.repeat_interleave(each, 0) for one in (heads_ph, attention_p, mlp_p))

    def only_heads(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        y_rthk = inputs[0].unflatten(-1, (block.config.heads, -1))
        return ((y_rthk * heads_ph[:, None, :, None].to(y_rthk)).flatten(2),)

    def times(share_p: Tensor) -> Any:
        return lambda _, __, out_rtd: out_rtd * share_p[:, None, None].to(out_rtd)

    assert isinstance(block.self_attn, Attention)
    attention, mlp = writers(block)
    return [
        block.self_attn.o_proj.register_forward_pre_hook(only_heads),
        attention.register_forward_hook(times(attention_p)),
        mlp.register_forward_hook(times(mlp_p)),
    ]
