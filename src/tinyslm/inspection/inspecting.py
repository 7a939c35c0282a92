"""A text as a model reads it: how likely each token was, what else could have stood there, what attends to what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError
from tinyslm.inspection.attention import Gathering, listen
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.shown import Token, show_token
from tinyslm.tokenizer.tokenizer import Tokenizer

ALTERNATIVES = 8
LONGEST = 512
"""Tokens. What attends to what is a square of this side for each head."""


@dataclass(frozen=True)
class Scored:
    """A token at a place of a text. logprob: natural logarithm of its probability there; rank: 1 for the likeliest.

    Both are `None` for the first one, before which the model had nothing to go by. top: the likeliest tokens there.
    """

    token: Token
    logprob: float | None
    rank: int | None
    top: tuple[tuple[Token, float], ...]


class Inspection:
    """What `inspect` found.

    Attributes: `tokens` with their scores; `following`: the likeliest tokens after the last one, with the logarithms
    of their probabilities; `layers` and `heads`: how many there are of each.
    """

    def __init__(
        self,
        tokens: tuple[Scored, ...],
        following: tuple[tuple[Token, float], ...],
        heads: int,
        gatherings: dict[int, Gathering],
    ) -> None:
        self.tokens, self.following = tokens, following
        self.layers, self.heads = len(gatherings), heads
        self._gatherings = gatherings

    def attention(self, layer: int, head: int | None = None) -> NDArray[Any]:
        """How much of each token (columns) every token (rows) takes, fp32 `[t, t]`; rows have the sum 1.

        Layers and heads count from 1. Without a head: the mean of all of the layer's heads.
        """
        check_head(layer, head, self.layers, self.heads)
        return _chosen(self._gatherings[layer - 1], head)


def inspect(model: Decoder, tokenizer: Tokenizer, ids: Sequence[int], *, top: int = ALTERNATIVES) -> Inspection:
    """Read a text, and keep what shows how the model reads it. Probabilities are the model's own: temperature 1.

    Raises `TinyslmError` for no tokens, for more than `LONGEST`, and for a model that computes no numbers.
    """
    _check_ids(model, ids)
    with torch.inference_mode():
        hidden_td, gatherings = listen(model, ids, range(model.config.depth))
        logprobs_tv = model.logits(hidden_td).float().log_softmax(-1)
        if not logprobs_tv.isfinite().all():
            raise TinyslmError(
                "The model computes something that is no number.", "Check where its weights come from, or use fp32."
            )
        best_tk = logprobs_tv.topk(min(top, logprobs_tv.shape[1]), -1)
        next_t = torch.tensor(ids[1:], device=logprobs_tv.device)
        chosen_t = logprobs_tv[:-1].gather(1, next_t[:, None])
        ranks = (1 + (logprobs_tv[:-1] > chosen_t).sum(-1)).tolist()
        chosen = chosen_t[:, 0].tolist()
    tops = [
        tuple((show_token(tokenizer, token), logprob) for token, logprob in zip(*row, strict=True))
        for row in zip(best_tk.indices.tolist(), best_tk.values.tolist(), strict=True)
    ]
    tokens = [Scored(show_token(tokenizer, ids[0]), None, None, ())]
    for place, token in enumerate(ids[1:]):
        tokens.append(Scored(show_token(tokenizer, token), chosen[place], ranks[place], tops[place]))
    return Inspection(tuple(tokens), tops[-1], model.config.heads, gatherings)


def attention(model: Decoder, ids: Sequence[int], layer: int, head: int | None = None) -> NDArray[Any]:
    """What `Inspection.attention` gives, for whoever needs one layer only."""
    _check_ids(model, ids)
    check_head(layer, head, model.config.depth, model.config.heads)
    return _chosen(listen(model, ids, [layer - 1])[1][layer - 1], head)


def check_head(layer: int, head: int | None, layers: int, heads: int) -> None:
    """Raise `TinyslmError` for a layer or a head that there is not; both count from 1."""
    for name, given, count in (("layer", layer, layers), ("head", head, heads)):
        if given is not None and not 1 <= given <= count:
            raise TinyslmError(f"This model has no {name} {given}.", f"Its {name}s are numbered 1 to {count}.")


def _chosen(gathering: Gathering, head: int | None) -> NDArray[Any]:
    weights_htt = gathering.weights()
    chosen: NDArray[Any] = weights_htt.mean(0) if head is None else weights_htt[head - 1]
    return chosen


def _check_ids(model: Decoder, ids: Sequence[int]) -> None:
    longest = min(LONGEST, model.config.longest)
    if not ids:
        raise TinyslmError("There is no text to look at.", "Give a text of at least one token.")
    if len(ids) > longest:
        raise TinyslmError(
            f"The text has {len(ids)} tokens; at most {longest} can be looked at at once.", "Look at a part of it."
        )
    if wrong := [token for token in ids if not 0 <= token < model.config.vocab_size]:
        raise TinyslmError(
            f"This model has no token {wrong[0]}.", f"Its tokens are numbered 0 to {model.config.vocab_size - 1}."
        )
