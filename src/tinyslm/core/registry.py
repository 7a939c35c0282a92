"""Registries of named items, such as model families, optimizers and readers."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from tinyslm.core.errors import TinyslmError, did_you_mean

Item = TypeVar("Item")


class Registry(Generic[Item]):
    """A dictionary of named items. An unknown name raises `TinyslmError`, whose message calls an item a `kind`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, Item] = {}

    def add(self, name: str, item: Item) -> Item:
        """Register `item` under `name`, which must be new."""
        assert name not in self._items, f"{self.kind} {name!r} is registered twice"
        self._items[name] = item
        return item

    def register(self, name: str) -> Callable[[Item], Item]:
        """`add` as a decorator."""
        return lambda item: self.add(name, item)

    def __getitem__(self, name: str) -> Item:
        if name not in self._items:
            raise TinyslmError(f'Unknown {self.kind} "{name}".', did_you_mean(name, self._items))
        return self._items[name]

    def __contains__(self, name: str) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)
