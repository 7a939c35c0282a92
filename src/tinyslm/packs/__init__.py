"""Packs: everything for one job each. Importing this package adds their graders and tasks to the registries."""

from tinyslm.packs.logic import LOGIC
from tinyslm.packs.pack import PACKS, add_pack

__all__ = ["LOGIC", "PACKS"]

add_pack(LOGIC)
