"""What each token attends to, as the model's own attention computes it.

Nothing of attention is written a second time here. Attention sums up values with its weights; so where every token's
value is a one-hot vector, the sums *are* the weights, whatever masks, turns, windows and shared heads there are. That
is how they are read off `Attention.core`.

Shape legend: b batch (1), t sequence, h heads, g kv_heads, k head_dim.
"""

from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyslm.model.attention import Attention, LayerCache
from tinyslm.model.attention_context import AttentionContext
from tinyslm.model.decoder import Decoder

Core = Callable[[Tensor, Tensor, Tensor, AttentionContext, LayerCache | None], Tensor]


@dataclass(frozen=True)
class Gathering:
    """The attention of one block over one text: its module, that module's `core`, and what went into that.

    q_bthk, k_btgk: queries and keys before rotation, and after their norms where the model has any.
    """

    module: Attention
    core: Core
    q_bthk: Tensor
    k_btgk: Tensor
    v_btgk: Tensor
    attn: AttentionContext

    @torch.inference_mode()
    def weights(self) -> NDArray[Any]:
        """How much of each token (last axis) every token takes, by head: fp32 `[h, t, t]`; rows have the sum 1."""
        _, t, groups, width = self.v_btgk.shape
        q_bthk, k_btgk = self.q_bthk.float(), self.k_btgk.float()
        parts = []
        for start in range(0, t, width):  # values as wide as the model's own: some kernels take no others
            one_hot_tk = q_bthk.new_zeros(t, width)
            shown = torch.arange(start, min(start + width, t), device=q_bthk.device)
            one_hot_tk[shown, shown - start] = 1
            values_btgk = one_hot_tk[None, :, None].expand(1, t, groups, width)
            parts.append(self.core(q_bthk, k_btgk, values_btgk, self.attn, None))
        weights: NDArray[Any] = torch.cat(parts, -1)[0, :, :, :t].transpose(0, 1).cpu().numpy()
        return weights


@torch.inference_mode()
def listen(model: Decoder, ids: Sequence[int], layers: Collection[int]) -> tuple[Tensor, dict[int, Gathering]]:
    """Final hidden states of a text `[t, d]`, and what went on in the attention of the given layers.

    The model itself is left alone: another thread may be generating with it.
    """
    twin = twin_of(model)
    found: dict[int, Gathering] = {}
    for layer in layers:
        attention = twin.model.layers[layer].self_attn
        assert isinstance(attention, Attention)
        attention.core = _heard(attention, layer, found)  # type: ignore[assignment, method-assign]
    hidden_btd = twin.model(torch.tensor([list(ids)], device=model.device))
    return hidden_btd[0], found


def _heard(module: Attention, layer: int, found: dict[int, Gathering]) -> Core:
    """The same computation, noted in `found`."""
    core = module.core

    def heard(
        q_bthk: Tensor, k_btgk: Tensor, v_btgk: Tensor, attn: AttentionContext, cache: LayerCache | None
    ) -> Tensor:
        found[layer] = Gathering(module, core, q_bthk, k_btgk, v_btgk, attn)
        return core(q_bthk, k_btgk, v_btgk, attn, cache)

    return heard


def twin_of(model: Decoder) -> Decoder:
    """A second set of modules over the same weights, in evaluation mode."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return deepcopy(model, shared).eval()
