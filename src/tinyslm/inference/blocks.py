"""Blocks of the KV cache, by number: who uses which, and which hold a prefix that may be needed again.

No tensors here: the runner keeps what the blocks hold. A full block is known by a digest of its tokens and of all
tokens before it, so that sequences that begin alike share the blocks of their common beginning. A block without
users keeps its content until its place is needed; the one unused for longest goes first.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

ROOT = b""
"""The key before the first block."""


def chain(parent: bytes, ids: Sequence[int]) -> bytes:
    """The key of a full block: the key of the block before it, and the ids in it."""
    return blake2b(parent + np.asarray(ids, np.int32).tobytes(), digest_size=16).digest()


class BlockPool:
    """`count` blocks."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count - 1, -1, -1))
        self._users = [0] * count
        self._keys: list[bytes | None] = [None] * count
        self._by_key: dict[bytes, int] = {}
        self._kept: OrderedDict[int, None] = OrderedDict()  # unused, but known by their key; the oldest first

    @property
    def available(self) -> int:
        """Blocks that `take` could give."""
        return len(self._free) + len(self._kept)

    @property
    def used(self) -> int:
        """Blocks that a sequence uses."""
        return self.count - self.available

    def take(self) -> int | None:
        """A block for new tokens; `None` when all are used."""
        if self._free:
            block = self._free.pop()
        elif self._kept:
            block, _ = self._kept.popitem(last=False)
            self._forget(block)
        else:
            return None
        self._users[block] = 1
        return block

    def give(self, block: int) -> None:
        """One user less."""
        self._users[block] -= 1
        assert self._users[block] >= 0, block
        if self._users[block]:
            return
        if self._keys[block] is None:
            self._free.append(block)
        else:
            self._kept[block] = None

    def share(self, key: bytes) -> int | None:
        """The block with this key, with one user more; `None` when there is none."""
        block = self._by_key.get(key)
        if block is not None:
            self._kept.pop(block, None)
            self._users[block] += 1
        return block

    def name(self, block: int, key: bytes) -> None:
        """The block is full now; the first of several with the same key stays the one that is found."""
        if key not in self._by_key:
            self._by_key[key] = block
            self._keys[block] = key

    def _forget(self, block: int) -> None:
        key = self._keys[block]
        assert key is not None
        del self._by_key[key]
        self._keys[block] = None
