"""The bytes of a GGUF file: header, keys, descriptions of tensors, tensors; little endian, version 3.

    "GGUF"  version  number of tensors  number of keys      4 + 4 + 8 + 8 bytes
    key, type, value                                        for each key
    name, dimensions, type, offset                          for each tensor
    padding, then every tensor at its offset, aligned

(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

VERSION = 3
ALIGNMENT = 32
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


@dataclass(frozen=True)
class Description:
    """A tensor of the file: its name, its shape as in torch (rows first), ggml's number for its type, its bytes."""

    name: str
    shape: tuple[int, ...]
    code: int
    size: int


def write_container(
    file: IO[bytes], keys: Mapping[str, Any], tensors: Sequence[Description], contents: Iterable[NDArray[np.uint8]]
) -> None:
    """Write a whole file; `contents` gives the bytes of each tensor in turn.

    Values are truth values, whole numbers (32 bits), floats (fp32), texts, and lists of one of these; an empty list is
    one of texts.
    """
    head = [b"GGUF", struct.pack("<IQQ", VERSION, len(tensors), len(keys))]
    head += [_text(key) + _typed(value) for key, value in keys.items()]
    offset = 0
    for tensor in tensors:
        dimensions = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
        head.append(_text(tensor.name) + dimensions + struct.pack("<IQ", tensor.code, offset))
        offset += _padded(tensor.size)
    start = b"".join(head)
    file.write(start.ljust(_padded(len(start)), b"\0"))
    for tensor, content in zip(tensors, contents, strict=True):
        assert content.nbytes == tensor.size, (tensor, content.nbytes)
        file.write(content.data)
        file.write(b"\0" * (_padded(tensor.size) - tensor.size))


def _typed(value: Any) -> bytes:
    """A value behind the number of its type."""
    kind = _kind(value)
    if kind != ARRAY:
        return struct.pack("<I", kind) + _plain(value, kind)
    # Whole numbers in lists are signed, as llama.cpp reads the types of tokens.
    inner = STRING if not value else INT32 if isinstance(value[0], int) else _kind(value[0])
    return struct.pack("<IIQ", ARRAY, inner, len(value)) + b"".join(_plain(item, inner) for item in value)


def _kind(value: Any) -> int:
    for kind, types in ((BOOL, bool), (UINT32, int), (FLOAT32, float), (STRING, str), (ARRAY, list)):
        if isinstance(value, types):
            return kind
    raise TypeError(f"no GGUF type for {value!r}")


def _plain(value: Any, kind: int) -> bytes:
    if kind == STRING:
        return _text(value)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}[kind], value)


def _text(text: str) -> bytes:
    content = text.encode("utf-8")
    return struct.pack("<Q", len(content)) + content


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
