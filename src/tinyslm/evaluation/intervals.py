"""How sure a measured mean is: percentile bootstrap intervals over examples (Efron, 1979), with a fixed seed.

What is resampled are examples (documents, tasks' items), not tokens: tokens of one document are not independent.
"""

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
Array = NDArray[np.float64]


def ratio_interval(totals: Array, sizes: Array) -> tuple[float, float]:
    """95 % interval of `totals.sum() / sizes.sum()`, such as bits over bytes; both `[examples]`.

    Sizes must not all be zero; a draw whose sizes are is left out.
    """
    ratios = [totals[pick].sum() / sizes[pick].sum() for pick in _draws(len(totals)) if sizes[pick].any()]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)


def paired_change_intervals(totals: Array) -> list[tuple[float, float]]:
    """95 % intervals of the relative change of each column's sum from the first one's; totals: `[examples, columns]`.

    All columns are resampled alike, so that what makes an example hard cancels out.
    """
    sums = np.array([totals[pick].sum(0) for pick in _draws(len(totals))])
    low, high = np.percentile(sums / sums[:, :1] - 1, [2.5, 97.5], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _draws(count: int) -> list[NDArray[np.int64]]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, count, count) for _ in range(DRAWS)]
