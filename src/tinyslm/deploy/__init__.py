"""Bundles: folders that are ready to publish, made from a model folder. Importing this package registers them."""

from tinyslm.deploy.bundle import BUNDLES
from tinyslm.deploy.container import CONTAINER
from tinyslm.deploy.page import PAGE
from tinyslm.deploy.space import SPACE

__all__ = ["BUNDLES", "CONTAINER", "PAGE", "SPACE"]

BUNDLES.add(PAGE.name, PAGE)
BUNDLES.add(SPACE.name, SPACE)
BUNDLES.add(CONTAINER.name, CONTAINER)
