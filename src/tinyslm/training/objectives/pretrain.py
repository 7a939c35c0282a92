"""Predict each next token."""

from collections.abc import Mapping

from torch import Tensor

from tinyslm.model.decoder import Decoder
from tinyslm.model.loss import loss_sum


def pretrain(model: Decoder, batch: Tensor) -> tuple[Tensor, float, Mapping[str, float]]:
    """Cross-entropy of windows `[batch, context + 1]`: every token but the last predicts the one after it.

    The weight is the number of predictions.
    """
    inputs, targets = batch[:, :-1], batch[:, 1:]
    hidden_nd = model.model(inputs).flatten(0, 1)
    return loss_sum(model, hidden_nd, targets.flatten()), float(targets.numel()), {}
