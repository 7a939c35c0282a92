"""Numbers in GGUF's block formats, through ggml's own encoder; and which tensor gets which format.

A block format stores 32 or 256 neighbouring values of a row together. The choice for each scheme is llama.cpp's
(`llama-quant.cpp`): more bits where rounding hurts most (the output product, and in some blocks the values and the
feed-forward's way down), fewer elsewhere.
"""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyslm.core.errors import require_extra

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class NumberType:
    """A way of storing numbers: ggml's number for it, and `values` of a row in `size` bytes."""

    name: str
    code: int
    values: int
    size: int
    instead: str = "F16"
    """The type for rows that are no whole number of blocks."""

    def fits(self, width: int) -> bool:
        """Whether rows of `width` values are a whole number of blocks."""
        return width % self.values == 0

    def bytes_of(self, shape: tuple[int, ...]) -> int:
        """Size of a tensor in bytes."""
        return int(np.prod(shape)) // self.values * self.size


TYPES = {
    kind.name: kind
    for kind in (
        NumberType("F32", 0, 1, 4),
        NumberType("F16", 1, 1, 2),
        NumberType("BF16", 30, 1, 2),
        NumberType("Q4_0", 2, 32, 18),
        NumberType("Q4_1", 3, 32, 20),
        NumberType("Q5_0", 6, 32, 22),
        NumberType("Q5_1", 7, 32, 24),
        NumberType("Q8_0", 8, 32, 34),
        NumberType("Q4_K", 12, 256, 144, "Q5_0"),
        NumberType("Q5_K", 13, 256, 176, "Q5_1"),
        NumberType("Q6_K", 14, 256, 210, "Q8_0"),
    )
}

# The scheme's usual type, and GGUF's number for the mixture (`general.file_type`).
SCHEMES = {
    "f32": ("F32", 0),
    "f16": ("F16", 1),
    "bf16": ("BF16", 32),
    "q8_0": ("Q8_0", 7),
    "q4_0": ("Q4_0", 2),
    "q4_k_m": ("Q4_K", 15),
    "q5_k_m": ("Q5_K", 17),
    "q6_k": ("Q6_K", 18),
}

LARGEST_HALF = 65504.0
"""The largest number of half precision, in which F16 has its values and every block format its scales."""


def wanted_type(scheme: str, name: str, dims: int, depth: int, *, tied: bool, calibrated: bool) -> str:
    """The type that a scheme gives to a tensor of whatever width.

    dims: number of dimensions. depth: number of blocks. calibrated: whether there was text to calibrate with; then
    llama.cpp gives some tensors more bits.
    """
    usual, _ = SCHEMES[scheme]
    if dims < 2 or name.endswith("_norm.weight") or name == "position_embd.weight":
        return "F32"
    if usual in ("F32", "F16", "BF16", "Q8_0"):
        return usual
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        return "Q6_K"
    if name.startswith("blk."):
        _, number, part, _ = name.split(".")
        block = int(number)
        sensitive = part in ("attn_v", "attn_qkv", "ffn_down")
        if scheme in ("q4_k_m", "q5_k_m") and sensitive and _gets_more_bits(block, depth):
            return "Q6_K"
        if scheme == "q4_0" and calibrated and part == "ffn_down" and block < depth // 8:
            return "Q4_1"
    return usual


def fitting_type(wanted: str, width: int) -> str:
    """The type that rows of `width` values can have: the wanted one, or what llama.cpp takes instead."""
    kind = TYPES[wanted]
    while not kind.fits(width):
        kind = TYPES[kind.instead]
    return kind.name


def encoded(tensor: Tensor, kind: str, importance: NDArray[np.float32] | None = None, threads: int = 1) -> Bytes:
    """The bytes of a tensor in a type whose blocks fit its rows.

    importance: how much each column weighs in the choice of a block's scales, fp32 [width]; positive.
    """
    if kind == "F32":
        return _raw(tensor.float())
    if kind == "F16":
        return _raw(tensor.half())
    if kind == "BF16":
        return _raw(tensor.bfloat16().view(torch.int16))
    number_type = TYPES[kind]
    rows = np.ascontiguousarray(tensor.float().numpy()).reshape(-1, tensor.shape[-1])
    out = np.empty((len(rows), rows.shape[1] // number_type.values * number_type.size), np.uint8)
    starts = np.linspace(0, len(rows), threads + 1, dtype=int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda span: _encode(rows, out, number_type, importance, span), pairwise(starts)))
    return out.reshape(-1)


def _gets_more_bits(block: int, depth: int) -> bool:
    """The first and last eighth of the blocks, and every third between (llama.cpp's `use_more_bits`)."""
    return block < depth // 8 or block >= 7 * depth // 8 or (block - depth // 8) % 3 == 2


def _raw(tensor: Tensor) -> Bytes:
    content: Bytes = np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)
    return content


def _encode(
    rows: NDArray[np.float32],
    out: Bytes,
    kind: NumberType,
    importance: NDArray[np.float32] | None,
    span: tuple[int, int],
) -> None:
    """Encode the rows from `span[0]` to before `span[1]` into their places in `out`."""
    start, stop = span
    if start == stop:
        return
    weights = None if importance is None else importance.ctypes.data_as(ctypes.c_void_p)
    part, place = rows[start:stop], out[start:stop]
    written = _ggml().ggml_quantize_chunk(
        kind.code, part.ctypes.data_as(ctypes.c_void_p), place.ctypes.data_as(ctypes.c_void_p), 0, *part.shape, weights
    )
    assert written == place.nbytes, (kind.name, written, place.nbytes)


@cache
def _ggml() -> Any:
    """ggml's library, which the package `libggml-python` carries."""
    try:
        import libggml
    except ImportError:
        raise require_extra("gguf", "Writing GGUF files in block formats") from None
    folder = Path(libggml.__file__).parent
    found = [path for path in sorted(folder.rglob("*ggml-base*")) if path.suffix in (".so", ".dylib", ".dll")]
    assert found, f"libggml-python holds no library in {folder}"
    library = ctypes.CDLL(str(found[0]))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    return library
