"""Small sets of our own, shipped so that everything can be tried offline."""

from __future__ import annotations

from pathlib import Path

from tinyslm.evaluation.tasks.benchmark import Benchmark

SETS = Path(__file__).parent.parent / "sets"

SHIPPED: dict[str, Benchmark] = {}
