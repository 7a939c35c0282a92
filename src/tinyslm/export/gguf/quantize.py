"""Tensors in GGUF's number formats, through ggml's own encoder; and which tensor gets which format.

A block format stores 32 or 256 neighbouring values of a row together. The choice for each scheme is llama.cpp's
(`llama-quant.cpp`): more bits where rounding hurts most (the output projection, and in some blocks the value and down
projections), fewer elsewhere.
"""

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyslm.core.errors import require_extra

Bytes = NDArray[np.uint8]

FALLBACKS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""The format of rows that are not a whole number of blocks; "F16" for all others."""

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
"""The scheme's usual format, and GGUF's number for the mixture (`general.file_type`)."""

LARGEST_HALF = 65504.0
"""The largest number of half precision, in which F16 has its values and every block format its scales."""


def wanted_type(scheme: str, name: str, dims: int, depth: int, *, tied: bool, calibrated: bool) -> str:
    """The format that a scheme gives to a tensor, whatever its width.

    dims: number of dimensions. depth: number of blocks. calibrated: whether there is a text to calibrate with, for
    which llama.cpp gives some tensors more bits.
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


def block_of(kind: str) -> tuple[int, int]:
    """How many values a block of this format holds, and in how many bytes. Raises `TinyslmError` without `gguf`."""
    try:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError:
        raise require_extra("gguf", "Writing GGUF files") from None
    values, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return values, size


def bytes_of(kind: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor in this format."""
    values, size = block_of(kind)
    return prod(shape) // values * size


def fitting_type(wanted: str, width: int) -> str:
    """The format that rows of `width` values can have: the wanted one, or what llama.cpp takes instead."""
    while width % block_of(wanted)[0]:
        wanted = FALLBACKS.get(wanted, "F16")
    return wanted


def encoded(tensor: Tensor, kind: str, importance: NDArray[np.float32] | None = None, threads: int = 1) -> Bytes:
    """The bytes of a tensor in a format whose blocks fit its rows.

    importance: the weight of each column in the choice of a block's scales, fp32 [width]; positive.
    """
    if kind == "F32":
        return _raw(tensor.float())
    if kind == "F16":
        return _raw(tensor.half())
    if kind == "BF16":
        return _raw(tensor.bfloat16().view(torch.int16))
    rows = np.ascontiguousarray(tensor.float().numpy()).reshape(-1, tensor.shape[-1])
    out = np.empty((len(rows), bytes_of(kind, rows.shape[1:])), np.uint8)
    starts = np.linspace(0, len(rows), threads + 1, dtype=int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda span: _encode(rows, out, kind, importance, span), pairwise(starts)))
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
    kind: str,
    importance: NDArray[np.float32] | None,
    span: tuple[int, int],
) -> None:
    """Encode the rows from `span[0]` to before `span[1]` into their places in `out`."""
    from gguf import GGMLQuantizationType

    start, stop = span
    if start == stop:
        return
    weights = None if importance is None else importance.ctypes.data_as(ctypes.c_void_p)
    part, place = rows[start:stop], out[start:stop]
    written = _ggml().ggml_quantize_chunk(
        GGMLQuantizationType[kind],
        part.ctypes.data_as(ctypes.c_void_p),
        place.ctypes.data_as(ctypes.c_void_p),
        0,
        *part.shape,
        weights,
    )
    assert written == place.nbytes, (kind, written, place.nbytes)


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
