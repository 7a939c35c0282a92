"""Packs: everything for one job each. Importing this package adds their graders and tasks to the registries."""

from tinyslm.packs.excel import EXCEL
from tinyslm.packs.logic import LOGIC
from tinyslm.packs.pack import PACKS, add_pack
from tinyslm.packs.prices import PRICES
from tinyslm.packs.security import SECURITY

__all__ = ["EXCEL", "LOGIC", "PACKS", "PRICES", "SECURITY"]

add_pack(EXCEL)
add_pack(LOGIC)
add_pack(PRICES)
add_pack(SECURITY)
