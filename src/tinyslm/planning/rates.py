"""Rules for learning rates and dropout, extrapolated from tuned runs.

The tuned runs have dim 256 and 1,000 updates of 4,096 tokens. Muon's updates are orthogonal, so its learning rate does
not depend on the width; AdamW's, for the tables, is proportional to 1 / sqrt(width) (Yang et al., "Tensor Programs V",
2022, as far as tied tables allow). Both grow with the square root of the tokens per update up to 4,096, because the
noise of the gradient shrinks (a further growth was worse), and in short runs, where few updates must learn everything.
Short runs also have a lower momentum: gradients from thirty updates ago mislead while the weights change fast
(docs/LOG.md).
"""

import math
from typing import Any

DIM, TOKENS, STEPS = 256, 4096, 1000
MUON_LR, LR = 0.02, 0.005
LEAST_MOMENTUM, MOST_MOMENTUM = 0.8, 0.95
DECAY = 0.9
"""Share of the run in which the learning rates decay: nearly all of it was better than the last 60 % (docs/LOG.md)."""
EPOCHS_WITHOUT_DROPOUT = 4.0
MOST_DROPOUT = 0.2
WEIGHTS_TO_REMEMBER = 4.0
"""Weights per token of a text with which a model can memorize it."""


def rates(
    dim: int, tokens_per_update: int, steps: int, epochs: float, weights_per_token: float = math.inf
) -> dict[str, dict[str, Any]]:
    """Settings, by section, for a run. weights_per_token: weights in blocks per token of unique text."""
    noise = _between(0.5, math.sqrt(tokens_per_update / TOKENS), 1.0)
    haste = STEPS / max(1, steps)
    return {
        "model": {"dropout": dropout(epochs, weights_per_token)},
        "optimizer": {
            "muon_lr": _rounded(MUON_LR * noise * _between(0.7, haste**0.3, 2.2)),
            "muon_momentum": momentum(steps),
            "lr": _rounded(LR * noise * math.sqrt(DIM / dim) * _between(0.5, haste**0.6, 6.0)),
        },
        "schedule": {"decay": DECAY},
    }


def momentum(steps: int) -> float:
    """Muon's momentum: it averages over about six updates in runs of 500, twenty in runs of 6,000."""
    return round(_between(LEAST_MOMENTUM, 1 - 0.17 * math.sqrt(500 / max(1, steps)), MOST_MOMENTUM), 2)


def dropout(epochs: float, weights_per_token: float) -> float:
    """0 for up to four epochs, then 0.05 more each time that the number of epochs doubles; less for models too small to
    memorize the text (any dropout hurts a model of dim 64 and depth 2 in twelve epochs of a megabyte)."""
    if epochs <= EPOCHS_WITHOUT_DROPOUT:
        return 0.0
    share = min(1.0, weights_per_token / WEIGHTS_TO_REMEMBER)
    return round(share * min(MOST_DROPOUT, 0.05 * math.log2(2 * epochs / EPOCHS_WITHOUT_DROPOUT)), 2)


def _between(low: float, value: float, high: float) -> float:
    return min(high, max(low, value))


def _rounded(value: float) -> float:
    """Round to two significant digits: the rules are not more precise."""
    return float(f"{value:.2g}")
