"""Confidence intervals of means: percentile bootstrap over examples (Efron, 1979), with a fixed seed.

The bootstrap resamples examples (documents or items), not tokens: the tokens of one document are not independent.
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
    """A mean difference with its 95 % interval. p: twice the share of resamples with the opposite sign (two-sided)."""

    value: float
    low: float
    high: float
    p: float


def ratio_interval(totals: Array, sizes: Array) -> tuple[float, float]:
    """95 % interval of `totals.sum() / sizes.sum()`, such as bits over bytes; both `[examples]`.

    Sizes must not all be zero; resamples whose sizes are all zero are skipped.
    """
    ratios = [totals[pick].sum() / sizes[pick].sum() for pick in _draws(len(totals)) if sizes[pick].any()]
    return _bounds(np.array(ratios))


def mean_estimate(values: Array) -> Estimate:
    """The mean of at least one value, `[examples]`, with its interval.

    The bootstrap interval of values that are all 0 or all 1 would be empty: they get the exact binomial interval
    instead (Clopper & Pearson, 1934).
    """
    unseen = 1 - 0.025 ** (1 / len(values))
    if (values == 0).all():
        return Estimate(0.0, 0.0, unseen)
    if (values == 1).all():
        return Estimate(1.0, 1 - unseen, 1.0)
    return Estimate(float(values.mean()), *_bounds(np.array([values[pick].mean() for pick in _draws(len(values))])))


def paired_difference(ours: Array, theirs: Array) -> Difference:
    """The mean of `ours - theirs`, both `[examples]`, in the same order; pairs are resampled together."""
    change = ours - theirs
    means = np.array([change[pick].mean() for pick in _draws(len(change))])
    sides = min((means <= 0).mean(), (means >= 0).mean())
    return Difference(float(change.mean()), *_bounds(means), p=float(min(1.0, max(2 * sides, 1 / DRAWS))))


def paired_ratio_difference(ours: Array, theirs: Array, sizes: Array) -> Difference:
    """`(ours.sum() - theirs.sum()) / sizes.sum()`, such as a difference of losses per token; all `[examples]`.

    Sizes must not all be zero; resamples whose sizes are all zero are skipped.
    """
    change = ours - theirs
    ratios = np.array([change[pick].sum() / sizes[pick].sum() for pick in _draws(len(change)) if sizes[pick].any()])
    sides = min((ratios <= 0).mean(), (ratios >= 0).mean())
    p = float(min(1.0, max(2 * sides, 1 / DRAWS)))
    return Difference(float(change.sum() / sizes.sum()), *_bounds(ratios), p=p)


def paired_change_intervals(totals: Array) -> list[tuple[float, float]]:
    """95 % intervals of the relative change of each column's sum from the first column's.

    totals: `[examples, columns]`. All columns use the same resamples, so that the difficulty of an example cancels out.
    """
    sums = np.array([totals[pick].sum(0) for pick in _draws(len(totals))])
    low, high = np.percentile(sums / sums[:, :1] - 1, [2.5, 97.5], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for multiple comparisons (Holm, 1979), in the order given.

    Calling those below 0.05 significant keeps the probability of any false positive at 5 %.
    """
    found, least = [1.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        least = max(least, min(1.0, (len(ps) - rank) * ps[index]))
        found[index] = least
    return found


def _bounds(means: Array) -> tuple[float, float]:
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _draws(count: int) -> Iterator[NDArray[np.int64]]:
    """Indices of `DRAWS` bootstrap resamples, yielded one at a time to save memory."""
    generator = np.random.default_rng(0)
    return (generator.integers(0, count, count) for _ in range(DRAWS))
