"""Numbers as people read them: counts, sizes, durations."""

import re


def count(number: float) -> str:
    """`950`, `12.3 k`, `3.1 M`, `7 B`: at most one decimal."""
    return _scaled(number, ("", "k", "M", "B", "T"))


def parse_count(text: str) -> int:
    """A whole number above zero from `950`, `12.3k`, `3M`, `7B`; `ValueError` for anything else."""
    found = re.fullmatch(r"([\d_]*\.?\d+) *([kMBT]?)", text.strip())
    if not found:
        raise ValueError(text)
    number = round(float(found[1]) * 1000.0 ** " kMBT".index(found[2] or " "))
    if number < 1:
        raise ValueError(text)
    return number


def size(number: float) -> str:
    """Bytes in powers of 1000: `950 B`, `27.7 MB`."""
    return _scaled(number, ("B", "kB", "MB", "GB", "TB"))


def duration(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`; seconds are rounded."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _scaled(number: float, units: tuple[str, ...]) -> str:
    """`number` in the largest of `units` (each 1000 of the one before) that leaves at least 1 of it."""
    power = 0
    while abs(round(number, 1)) >= 1000 and power < len(units) - 1:
        number /= 1000
        power += 1
    return f"{number:,.1f}".removesuffix(".0") + f" {units[power]}".rstrip()
