"""Learning rates and dropout for a shape and a length of training: rules that carry over from tuned runs.

The tuned ones have dim 256, updates of 4,096 tokens, and a thousand of them. Muon's updates are orthogonal, so their
size does not depend on the width; AdamW's, on the tables, shrink with its root (Yang et al., "Tensor Programs V", 2022,
as far as tied tables allow). Both grow with the root of the tokens in an update up to 4,096, as the noise in it
shrinks (beyond, a further growth was worse), and in short runs: what is to be learned in few updates needs large ones.
There the momentum is short, too: what gradients said thirty updates ago misleads when all is still changing
(docs/LOG.md).
"""

import math
from typing import Any

DIM, TOKENS, STEPS = 256, 4096, 1000
MUON_LR, LR = 0.02, 0.005
LEAST_MOMENTUM, MOST_MOMENTUM = 0.8, 0.95
DECAY = 0.9
"""Share of the run in which the rates run down: nearly all of it was better than the last 60 % (docs/LOG.md)."""
EPOCHS_WITHOUT_DROPOUT = 4.0
MOST_DROPOUT = 0.2
WEIGHTS_TO_REMEMBER = 4.0
"""For each token of a text, of a model that can learn it by heart."""


def rates(
    dim: int, tokens_per_update: int, steps: int, epochs: float, weights_per_token: float = math.inf
) -> dict[str, dict[str, Any]]:
    """Settings, by section, that suit a width, the tokens of an update, their number, how often text is read, and how
    many weights in blocks there are for each of its tokens.
    """
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
    """Muon's momentum: it remembers about six updates in runs of 500, twenty in runs of 6,000."""
    return round(_between(LEAST_MOMENTUM, 1 - 0.17 * math.sqrt(500 / max(1, steps)), MOST_MOMENTUM), 2)


def dropout(epochs: float, weights_per_token: float) -> float:
    """None for text that is read up to four times, then 0.05 more each time that the readings double; less for a model
    that is too small to learn the text by heart (64 x 2 on a megabyte, read twelve times, is worse for any)."""
    if epochs <= EPOCHS_WITHOUT_DROPOUT:
        return 0.0
    share = min(1.0, weights_per_token / WEIGHTS_TO_REMEMBER)
    return round(share * min(MOST_DROPOUT, 0.05 * math.log2(2 * epochs / EPOCHS_WITHOUT_DROPOUT)), 2)


def _between(low: float, value: float, high: float) -> float:
    return min(high, max(low, value))


def _rounded(value: float) -> float:
    """Two significant digits: more would pretend to know."""
    return float(f"{value:.2g}")
