"""Format and parse counts, sizes and durations."""

import re


def count(number: float) -> str:
    """Format a count with at most one decimal: `950`, `12.3 k`, `3.1 M`, `7 B`."""
    return _scaled(number, ("", "k", "M", "B", "T"))


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is one: `1 update`, `2,000 updates`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def parse_count(text: str) -> int:
    """Parse a whole number above zero such as `950`, `12.3k`, `3M`, `7B`. Raises `ValueError` for anything else."""
    match = re.fullmatch(r"([\d_]*\.?\d+) *([kMBT]?)", text.strip())
    if not match:
        raise ValueError(text)
    number = round(float(match[1]) * 1000.0 ** " kMBT".index(match[2] or " "))
    if number < 1:
        raise ValueError(text)
    return number


def size(number: float) -> str:
    """Format bytes in powers of 1000: `950 B`, `27.7 MB`."""
    return _scaled(number, ("B", "kB", "MB", "GB", "TB"))


def duration(seconds: float) -> str:
    """Format a duration, rounded to seconds: `0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _scaled(number: float, units: tuple[str, ...]) -> str:
    """Format `number` in the largest of `units`, each 1000 times the one before, in which it is at least 1."""
    power = 0
    while abs(round(number, 1)) >= 1000 and power < len(units) - 1:
        number /= 1000
        power += 1
    return f"{number:,.1f}".removesuffix(".0") + f" {units[power]}".rstrip()
