"""Grouped queries for small test models: wide models have them, and what is cached and written differs with them."""

from tinyslm.model.families import FAMILIES


def grouped(family: str, heads: int) -> dict[str, int]:
    """Half as many key and value heads, where the family can have them."""
    return {"kv_heads": heads // 2} if "kv_heads" in FAMILIES[family].keys else {}
