"""How sure a measured mean is: percentile bootstrap intervals over examples (Efron, 1979), with a fixed seed.

What is resampled are examples (documents, tasks' items), not tokens: tokens of one document are not independent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A mean difference with its 95 % interval. p: how often resampling turns its sign, doubled (two-sided)."""

    value: float
    low: float
    high: float
    p: float


def ratio_interval(totals: Array, sizes: Array) -> tuple[float, float]:
    """95 % interval of `totals.sum() / sizes.sum()`, such as bits over bytes; both `[examples]`.

    Sizes must not all be zero; a draw whose sizes are is left out.
    """
    ratios = [totals[pick].sum() / sizes[pick].sum() for pick in _draws(len(totals)) if sizes[pick].any()]
    return _bounds(np.array(ratios))


def mean_estimate(values: Array) -> Estimate:
    """The mean of at least one value, `[examples]`.

    Resampling cannot show what no example has: where all are 0 or all are 1, the interval is that of a share which was
    never or always observed (Clopper & Pearson, 1934).
    """
    unseen = 1 - 0.025 ** (1 / len(values))
    if (values == 0).all():
        return Estimate(0.0, 0.0, unseen)
    if (values == 1).all():
        return Estimate(1.0, 1 - unseen, 1.0)
    return Estimate(float(values.mean()), *_bounds(np.array([values[pick].mean() for pick in _draws(len(values))])))


def paired_difference(ours: Array, theirs: Array) -> Difference:
    """The mean of `ours - theirs`, both `[examples]` of the same examples, which are resampled together."""
    change = ours - theirs
    means = np.array([change[pick].mean() for pick in _draws(len(change))])
    sides = min((means <= 0).mean(), (means >= 0).mean())
    return Difference(float(change.mean()), *_bounds(means), p=float(min(1.0, max(2 * sides, 1 / DRAWS))))


def paired_change_intervals(totals: Array) -> list[tuple[float, float]]:
    """95 % intervals of the relative change of each column's sum from the first one's; totals: `[examples, columns]`.

    All columns are resampled alike, so that what makes an example hard cancels out.
    """
    sums = np.array([totals[pick].sum(0) for pick in _draws(len(totals))])
    low, high = np.percentile(sums / sums[:, :1] - 1, [2.5, 97.5], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for how many there are (Holm, 1979): below 0.05, at most one set in twenty has a false one."""
    found, least = [1.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        least = max(least, min(1.0, (len(ps) - rank) * ps[index]))
        found[index] = least
    return found


def _bounds(means: Array) -> tuple[float, float]:
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _draws(count: int) -> Iterator[NDArray[np.int64]]:
    """Indices of `DRAWS` samples of as many examples as there are; one at a time, as there may be many examples."""
    generator = np.random.default_rng(0)
    return (generator.integers(0, count, count) for _ in range(DRAWS))
