"""The residual stream: what attention and feed-forward of each block add to it, and the logit lens.

Shape legend: l blocks, t sequence, d dim, v vocab_size, f ffn_dim.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tinyslm.inspection.attention import twin_of
from tinyslm.model.decoder import Block, Decoder


@dataclass(frozen=True)
class Stream:
    """The residual stream of one text.

    hidden_ltd: after the embeddings (first) and after each block, before the final norm, `[l + 1, t, d]`.
    attention_ltd, feed_forward_ltd: what each block adds, `[l, t, d]`: their sum is the step to the next hidden state.
    read_ltd: what each feed-forward reads, `[l, t, d]`. active_ltf: what its last product reads, `[l, t, f]`.
    """

    hidden_ltd: Tensor
    attention_ltd: Tensor
    feed_forward_ltd: Tensor
    read_ltd: Tensor
    active_ltf: Tensor


@torch.inference_mode()
def residual_stream(model: Decoder, ids: Sequence[int]) -> Stream:
    """Record the residual stream of a text; the model is unchanged."""
    twin, scale = twin_of(model), model.config.residual_scale
    hidden: list[Tensor] = []
    attention: list[Tensor] = []
    feed_forward: list[Tensor] = []
    read: list[Tensor] = []
    active: list[Tensor] = []
    for block in twin.model.layers:
        assert isinstance(block, Block)
        for module, found in zip(writers(block), (attention, feed_forward), strict=True):
            module.register_forward_hook(_record_output(found))
        down: nn.Module = block.mlp.down_proj  # type: ignore[assignment]
        down.register_forward_pre_hook(_record_input(active))
        block.mlp.register_forward_pre_hook(_record_input(read))
        block.register_forward_pre_hook(_record_input(hidden))
    twin.model.norm.register_forward_pre_hook(_record_input(hidden))
    twin.model(torch.tensor([list(ids)], device=model.device))
    return Stream(
        torch.stack(hidden),
        torch.stack(attention) * scale,
        torch.stack(feed_forward) * scale,
        torch.stack(read),
        torch.stack(active),
    )


@torch.inference_mode()
def logit_lens(model: Decoder, hidden_td: Tensor) -> Tensor:
    """Log-probabilities of the next token if `hidden_td`, some block's output, were the last one's: `[t, v]`.

    The final norm and the output projection read it (the logit lens; nostalgebraist, 2020).
    """
    return model.logits(model.model.norm(hidden_td)).float().log_softmax(-1)


def writers(block: Block) -> tuple[nn.Module, nn.Module]:
    """The modules whose outputs a block adds to the stream: of attention and of feed-forward (norms, where they
    stand after those)."""
    _, after_attention, _, after_mlp = block.norms
    return (
        getattr(block, after_attention) if after_attention else block.self_attn,
        getattr(block, after_mlp) if after_mlp else block.mlp,
    )


def _record_output(found: list[Tensor]) -> Callable[[nn.Module, Any, Tensor], None]:
    return lambda _, __, out: found.append(out[0])


def _record_input(found: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    return lambda _, inputs: found.append(inputs[0][0])
