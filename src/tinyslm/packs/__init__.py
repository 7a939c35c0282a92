"""Packs: everything for one job each. Importing this package adds their graders and tasks to the registries."""

from tinyslm.packs.logic import LOGIC
from tinyslm.packs.pack import add_pack

add_pack(LOGIC)
