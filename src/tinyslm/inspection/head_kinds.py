"""Kinds of attention heads, measured on a sequence of random tokens that is repeated once.

Random tokens carry no meaning. In the second half each token stands `period` positions after its first occurrence, so
the position that a head attends to shows whether it uses positions or equal tokens (Olsson et al., 2022, "In-context
Learning and Induction Heads").

Shape legend: n sequences, t sequence, l layers, h heads, v vocab_size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyslm.inspection.attention import listen
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.tokenizer import Tokenizer

SEQUENCES, PERIOD = 4, 24


@dataclass(frozen=True)
class HeadKind:
    """A kind of head. target: the position that it attends to from `place` in the second half, as a function of place
    and period; looks: the same in words."""

    name: str
    short: str
    looks: str
    target: Callable[[int, int], int]


KINDS = (
    HeadKind("previous token", "previous", "the token before it", lambda place, period: place - 1),
    HeadKind("itself", "itself", "the token itself", lambda place, period: place),
    HeadKind("first token", "first", "the first token of the text", lambda place, period: 0),
    HeadKind("same token", "same", "where the same token stood before", lambda place, period: place - period),
    HeadKind(
        "induction", "induction", "the token after the place where the same token stood before",
        lambda place, period: place - period + 1,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class HeadKinds:
    """shares: for each kind by name, the mean weight that each head gives the position of this kind, `[l, h]`.

    chance: that weight if attention were uniform. period: tokens of each half. ids_nt: what was read.
    """

    shares: Mapping[str, NDArray[Any]]
    chance: float
    period: int
    ids_nt: Tensor


def head_kinds(model: Decoder, tokenizer: Tokenizer, *, seed: int = 0) -> HeadKinds:
    """Measure the heads of a model whose context has room for two halves of at least two tokens each."""
    ids_nt, start, period = repeated_tokens(model, tokenizer, seed)
    depth, heads = model.config.depth, model.config.heads
    sums = {kind.name: np.zeros((depth, heads)) for kind in KINDS}
    places = np.arange(start + period, start + 2 * period - 1)  # of the last one, nothing would tell what follows
    targets = {kind.name: np.array([kind.target(place, period) for place in places.tolist()]) for kind in KINDS}
    for ids in ids_nt.tolist():
        _, found = listen(model, ids, range(depth))
        for layer, gathering in found.items():
            weights_htt = gathering.weights()
            for name, there in targets.items():
                sums[name][layer] += weights_htt[:, places, there].mean(1) / len(ids_nt)
    return HeadKinds(sums, float((1 / (places + 1)).mean()), period, ids_nt)


def repeated_tokens(model: Decoder, tokenizer: Tokenizer, seed: int = 0) -> tuple[Tensor, int, int]:
    """`SEQUENCES` texts `[n, t]` of different random tokens, twice in a row, after what the model expects first;
    where they start, and how many there are."""
    start = list(tokenizer.start_ids)
    special = set(tokenizer.special_ids.values())
    ordinary = [token for token in range(model.config.vocab_size) if tokenizer.token_bytes(token)]
    ordinary = [token for token in ordinary if token not in special]
    period = min(PERIOD, (model.config.longest - len(start)) // 2, len(ordinary))
    generator = np.random.default_rng(seed)
    halves = [generator.choice(ordinary, period, replace=False).tolist() for _ in range(SEQUENCES)]
    return torch.tensor([[*start, *half, *half] for half in halves]), len(start), period


@torch.inference_mode()
def repetition_bits(model: Decoder, kinds: HeadKinds) -> tuple[float, float]:
    """Bits per token of the first and of the second half of repeated random tokens.

    The first token of either half is left out: nothing tells it. A model that copies needs less for the second half.
    """
    logprobs_ntv = model(kinds.ids_nt[:, :-1]).float().log_softmax(-1)
    bits_nt = -logprobs_ntv.gather(2, kinds.ids_nt[:, 1:, None])[:, :, 0] / np.log(2)
    known = kinds.period - 1
    return float(bits_nt[:, -known - kinds.period : -kinds.period].mean()), float(bits_nt[:, -known:].mean())
