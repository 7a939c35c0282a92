"""GGUF files, read without trust: nothing is allocated, and nothing skipped, on the word of the file alone.

The layout (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian):

    "GGUF"  version  number of tensors  number of keys      4 + 4 + 8 + 8 bytes
    key, type, value                                        for each key
    name, dimensions, type, offset                          for each tensor
    padding, then every tensor at its offset, aligned

Every count, length, dimension and offset is held against the bytes that are left in the file. The file is mapped, not
read; tensors come out one at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.printable import one_line

MOST_ENTRIES = 1 << 16  # keys, or tensors; the largest models have a few thousand, and each costs memory in Python
LONGEST_NAME = (1 << 16) - 1  # bytes of a key
LONGEST_TENSOR_NAME = 64  # bytes
MOST_DIMENSIONS = 4
VALUES_AT_ONCE = 1 << 18  # values that are dequantized at once

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_ALIGNMENT = "general.alignment"

T = TypeVar("T")


class Strings:
    """An array of texts, still in the file: decoded one after another, each time anew."""

    def __init__(self, path: Path, content: NDArray[np.uint8], start: int, count: int) -> None:
        self._place, self._count = (path, content, start), count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        cursor = _Header(*self._place)
        for _ in range(self._count):
            yield cursor.text("a text in an array")


Value = int | float | bool | str | NDArray[Any] | Strings

_KINDS: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    np.ndarray: "a list of numbers",
    Strings: "a list of texts",
}


def shown(value: Value) -> str:
    """A value as a message shows it: a list by what it begins with."""
    if isinstance(value, Strings):
        return f"a list of {len(value):,} texts"
    if not isinstance(value, np.ndarray):
        return str(value)
    return f"[{', '.join(map(str, value[:4].tolist()))}{', ...' if len(value) > 4 else ''}]"


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor is: its shape as PyTorch has it (outermost first), its number format, its bytes in the file."""

    name: str
    shape: tuple[int, ...]
    format: str
    start: int
    size: int


class Gguf:
    """A GGUF file whose header is sound.

    Attributes:
        path: the file.
        metadata: its keys; numbers and texts as they are, arrays of numbers as numpy views, of texts as `Strings`.
        tensors: the place of each tensor, by name, in the file's order.
    """

    def __init__(self, path: str | Path) -> None:
        """Map the file and check its whole header; raises `TinyslmError` for what is not a valid GGUF file."""
        self.path = Path(path)
        header = _Header(self.path, _map(self.path))
        tensors, keys = header.opening()
        self.metadata: Mapping[str, Value] = header.entries(keys)
        self.tensors: Mapping[str, TensorPlace] = header.places(tensors, self._alignment())
        self._content = header.content

    def __contains__(self, key: str) -> bool:
        return key in self.metadata

    def get(self, key: str, kind: type[T]) -> T | None:
        """The value of a key, which must be of this kind; `None` where the file does not have the key."""
        if key not in self.metadata:
            return None
        value = self.metadata[key]
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise TinyslmError(
                f"{self.path} has {one_line(shown(value), 40)} under {key}, not {_KINDS[kind]}.",
                "Make the GGUF file again with a current tool.",
            )
        return value

    def need(self, key: str, kind: type[T]) -> T:
        """The value of a key that must be there."""
        value = self.get(key, kind)
        if value is None:
            raise TinyslmError(f"{self.path} does not say {key}.", "Make the GGUF file again with a current tool.")
        return value

    def read(self, name: str) -> NDArray[np.float32]:
        """One tensor in fp32, in PyTorch's shape; whatever its format, a new array.

        Raises `TinyslmError` for a format that the `gguf` package cannot read, and for values that are not finite.
        """
        place = self.tensors[name]
        raw = self._content[place.start : place.start + place.size]
        rows = raw.reshape(prod(place.shape[:-1]), -1)
        values = np.empty((len(rows), place.shape[-1]), np.float32)
        step = max(1, VALUES_AT_ONCE // place.shape[-1])
        for first in range(0, len(rows), step):
            values[first : first + step] = self._decoded(place, rows[first : first + step])
        if not np.isfinite(values).all():
            raise TinyslmError(
                f"{self.path} is damaged: tensor {name} has values that are not finite.", "Get the file again."
            )
        return values.reshape(place.shape)

    def _decoded(self, place: TensorPlace, rows: NDArray[np.uint8]) -> NDArray[Any]:
        """Rows of bytes to rows of values."""
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        rows = np.array(rows)  # in a mapped file they need not stand where numpy wants values to
        if place.format in _PLAIN:
            return rows.view(_PLAIN[place.format])
        try:
            with np.errstate(all="ignore"):
                # Blocks stand alone, so that many rows can pass as one; rows by themselves are slow.
                values: NDArray[Any] = dequantize(rows.reshape(1, -1), GGMLQuantizationType[place.format])
        except NotImplementedError:
            raise TinyslmError(
                f"Tensor {place.name} in {self.path} is stored as {place.format}, which the gguf package cannot read.",
                "Get the model in another format, such as Q8_0, Q4_K_M, F16 or BF16.",
            ) from None
        return values.reshape(len(rows), -1)

    def _alignment(self) -> int:
        alignment = self.get(_ALIGNMENT, int)
        alignment = 32 if alignment is None else alignment
        if alignment <= 0 or alignment & (alignment - 1):
            _damaged(self.path, f"{_ALIGNMENT} is {alignment}, which is not a power of two")
        return alignment


_PLAIN = {"I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F64": "<f8", "F32": "<f4", "F16": "<f2"}
"""Formats that numpy has itself."""


class _Header:
    """Reads a header from its beginning on; `at` is the next byte."""

    def __init__(self, path: Path, content: NDArray[np.uint8], at: int = 0) -> None:
        self.path, self.content, self.at = path, content, at
        self._buffer = content.data

    def opening(self) -> tuple[int, int]:
        """Magic and version; gives the numbers of tensors and keys."""
        magic = bytes(self._buffer[:4])
        if magic in (b"ggml", b"ggmf", b"ggjt", b"ggla", b"lmgg", b"fmgg", b"tjgg", b"algg"):
            raise TinyslmError(
                f"{self.path} is in the format that came before GGUF.", "Get the model as a current GGUF file."
            )
        if magic != b"GGUF":
            raise TinyslmError(
                f"{self.path} is not a GGUF file: it begins with {magic!r} instead of b'GGUF'.",
                "Give a .gguf file, or a model folder.",
            )
        self.at = 4
        version = self.number("I")
        if version in (0x01000000, 0x02000000, 0x03000000):
            raise TinyslmError(
                f"{self.path} is a big-endian GGUF file.",
                "Convert it to little endian (gguf-py's gguf_convert_endian), or get it so.",
            )
        if version not in (2, 3):
            raise TinyslmError(
                f"{self.path} says that it is GGUF version {version}; versions 2 and 3 can be read.",
                "Get the model as a current GGUF file.",
            )
        tensors, keys = self.number("Q"), self.number("Q")
        for count, what, least in ((keys, "keys", 13), (tensors, "tensors", 33)):
            if count > MOST_ENTRIES or count * least > self.left:
                self.damaged(f"it claims to have {count:,} {what} in {len(self.content):,} bytes")
        return tensors, keys

    def entries(self, count: int) -> dict[str, Value]:
        """The keys and their values."""
        found: dict[str, Value] = {}
        for _ in range(count):
            key = self.text("a key", LONGEST_NAME)
            if not key or key in found:
                self.damaged(f"the key {_short(key)} is there twice" if key else "a key has no name")
            found[key] = self._value(key, self.number("I"))
        return found

    def places(self, count: int, alignment: int) -> dict[str, TensorPlace]:
        """Where each tensor is, checked to lie inside the file, aligned, and apart from the others."""
        listed = [self._tensor() for _ in range(count)]
        begin = -(-self.at // alignment) * alignment
        found: dict[str, TensorPlace] = {}
        for name, shape, kind, offset, size in listed:
            if name in found:
                self.damaged(f"the tensor {_short(name)} is there twice")
            if offset % alignment or begin + offset + size > len(self.content):
                self.damaged(
                    f"the tensor {_short(name)} of {size:,} bytes cannot stand at {begin + offset:,} "
                    f"of {len(self.content):,} (is the file cut short?)"
                )
            found[name] = TensorPlace(name, shape, kind, begin + offset, size)
        ordered = sorted(found.values(), key=lambda place: place.start)
        for one, other in pairwise(ordered):
            if one.start + one.size > other.start:
                self.damaged(f"the tensors {_short(one.name)} and {_short(other.name)} overlap")
        return found

    def number(self, code: str) -> Any:
        """The next number, in `struct`'s code."""
        size = struct.calcsize(code)
        if size > self.left:
            self.damaged("it ends in the middle of its header")
        (value,) = struct.unpack_from("<" + code, self._buffer, self.at)
        self.at += size
        return value

    def text(self, what: str, longest: int | None = None) -> str:
        """The next text, UTF-8 with its length before it."""
        length = self.skip_text(what, longest)
        try:
            return str(self._buffer[self.at - length : self.at], "utf-8")
        except UnicodeDecodeError:
            self.damaged(f"{what} is not UTF-8 text")

    def skip_text(self, what: str, longest: int | None = None) -> int:
        """Step over the next text; gives its length in bytes."""
        length: int = self.number("Q")
        if length > self.left or (longest is not None and length > longest):
            self.damaged(f"{what} claims to be {length:,} bytes long")
        self.at += length
        return length

    @property
    def left(self) -> int:
        """Bytes from here to the end of the file."""
        return len(self.content) - self.at

    def damaged(self, how: str) -> NoReturn:
        _damaged(self.path, how)

    def _value(self, key: str, kind: int) -> Value:
        if kind == _STRING:
            return self.text(f"the value of {_short(key)}")
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _NUMBERS:
            self.damaged(f"the value of {_short(key)} is of type {kind}, which does not exist")
        value: int | float = self.number(_NUMBERS[kind])
        if kind == _BOOL:
            if value > 1:
                self.damaged(f"the value of {_short(key)} is neither true nor false")
            return bool(value)
        return value

    def _array(self, key: str) -> Value:
        kind, count = self.number("I"), self.number("Q")
        if kind == _ARRAY:
            self.damaged(f"the value of {_short(key)} is an array of arrays")
        if kind != _STRING and kind not in _NUMBERS:
            self.damaged(f"the value of {_short(key)} is an array of type {kind}, which does not exist")
        size = 8 if kind == _STRING else struct.calcsize(_NUMBERS[kind])
        if count > self.left // size:
            self.damaged(f"the value of {_short(key)} claims to be an array of {count:,} values")
        start = self.at
        if kind == _STRING:
            for _ in range(count):
                self.skip_text(f"a text in {_short(key)}")
            return Strings(self.path, self.content, start, count)
        self.at += count * size
        values = np.frombuffer(self._buffer[start : self.at], f"<{_NUMBERS[kind]}")
        return values.astype(np.bool_) if kind == _BOOL else values

    def _tensor(self) -> tuple[str, tuple[int, ...], str, int, int]:
        """Name, shape, format, offset and size in bytes of the next tensor in the list."""
        name = self.text("a tensor's name", LONGEST_TENSOR_NAME)
        dimensions: int = self.number("I")
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            self.damaged(f"the tensor {_short(name)} claims to have {dimensions:,} dimensions")
        shape = tuple(self.number("Q") for _ in range(dimensions))
        kind, offset = self.number("I"), self.number("Q")
        if kind not in _formats():
            raise TinyslmError(
                f"The tensor {_short(name)} in {self.path} is of type {kind}, which the gguf package does not know.",
                "Update the package (pip install -U gguf), or get the model in another format.",
            )
        format_, block, block_bytes = _formats()[kind]
        if min(shape) < 1 or shape[0] % block:
            self.damaged(f"the tensor {_short(name)} has the shape {list(shape)}, which {format_} cannot have")
        return name, shape[::-1], format_, offset, prod(shape) // block * block_bytes


@cache
def _formats() -> dict[int, tuple[str, int, int]]:
    """Number of each tensor type -> its name, values in a block, bytes of a block."""
    try:
        from gguf.constants import GGML_QUANT_SIZES
    except ImportError:
        raise require_extra("gguf", "Reading GGUF files") from None
    return {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}


def _map(path: Path) -> NDArray[np.uint8]:
    """The file's bytes, mapped for reading."""
    if path.is_dir():
        raise TinyslmError(f"{path} is a folder, not a file.", "Give a .gguf file; a model folder needs no import.")
    if not path.is_file():
        raise TinyslmError(f"{path} does not exist.", "Give the path of a .gguf file.")
    try:
        if path.stat().st_size < 24:
            _damaged(path, "it is too short to be a GGUF file")
        return np.memmap(path, np.uint8, mode="r")
    except OSError as error:
        raise TinyslmError(f"Could not read {path}: {error.strerror}.", "Check the path and its permissions.") from None


def _short(name: str) -> str:
    """A name from the file, as it can be shown."""
    return f'"{one_line(name, 80)}"'


def _damaged(path: Path, how: str) -> NoReturn:
    raise TinyslmError(f"{path} is damaged: {how}.", "Get the file again, or make it again from the model.")
