"""Decompress Zstandard files, with an error for truncated ones (which Python's `gzip` reports by itself)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK = 1 << 12  # compressed bytes read at a time: few, because they may expand a thousandfold


class ZstdStream(io.RawIOBase):
    """The decompressed content of all frames in `raw`. Reading raises `EOFError` if the last frame is incomplete."""

    def __init__(self, raw: BinaryIO) -> None:
        import zstandard

        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame = self._decompressor.decompressobj()
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: WriteableBuffer) -> int:
        """Read at least one byte into `target`; returns 0 at the end."""
        while not self._ready:
            block = self._raw.read(BLOCK)
            if not block:
                if not self._frame.eof:
                    raise EOFError("it ends in the middle of its compressed data")
                return 0
            self._ready = memoryview(b"".join(self._decompressed(block)))
        view = memoryview(target)
        part, self._ready = self._ready[: len(view)], self._ready[len(view) :]
        view[: len(part)] = part
        return len(part)

    def _decompressed(self, block: bytes) -> list[bytes]:
        parts = []
        while block:
            if self._frame.eof:
                self._frame = self._decompressor.decompressobj()
            parts.append(self._frame.decompress(block))
            block = self._frame.unused_data
        return parts
