"""Checks of preferences: equal answers, and answers that differ mostly in length."""

from __future__ import annotations

from collections.abc import Iterator

from tinyslm.data.lint.check import Check, Examples, Hit

FEWEST = 20
"""Minimum number of pairs for comparing lengths."""
ONE_SIDED = 0.85
"""If at least this share of the pairs have the longer answer on the same side, length alone predicts the preference."""
DIFFERENT = 1.1
"""Minimum ratio of lengths for one answer to count as longer."""


def _equal(data: Examples) -> Iterator[Hit]:
    for place, chosen, rejected in data.pairs:
        if chosen.split() == rejected.split():
            yield Hit(place, "both answers are equal" if chosen == rejected else "they differ in white space only")


def _length(data: Examples) -> Iterator[Hit]:
    pairs = [(place, len(chosen), len(rejected)) for place, chosen, rejected in data.pairs if chosen != rejected]
    longer = [pair for pair in pairs if pair[1] >= DIFFERENT * pair[2]]
    shorter = [pair for pair in pairs if pair[2] >= DIFFERENT * pair[1]]
    found, word = max((longer, "longer"), (shorter, "shorter"), key=lambda side: len(side[0]))
    if len(pairs) >= FEWEST and _certainly_above(len(found), len(pairs), ONE_SIDED):
        for place, chosen, rejected in found:
            yield Hit(place, f"the chosen answer is the {word} one: {chosen:,} characters, the rejected {rejected:,}")


def _certainly_above(count: int, total: int, share: float) -> bool:
    """Whether a share is above `share`, by the lower end of Wilson's 90 % interval."""
    z = 1.645
    centre = count / total + z * z / (2 * total)
    margin = z * ((count / total * (1 - count / total) + z * z / (4 * total)) / total) ** 0.5
    return bool((centre - margin) / (1 + z * z / total) >= share)


CHECKS = {
    "equal-pairs": Check(
        "warning",
        "Pairs whose answers are equal",
        "Remove them: they teach nothing.",
        _equal,
    ),
    "length-pairs": Check(
        "warning",
        "Pairs that mostly differ in length",
        "Balance the lengths of both sides: otherwise the model learns to write longer or shorter answers.",
        _length,
    ),
}
