"""Block formats hold what the gguf package reads out of them, and tensors get the types that llama.cpp gives them."""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from tinyslm.export.gguf.quantize import SCHEMES, bytes_of, encoded, fitting_type, wanted_type

BITS = {"Q4_0": 4, "Q4_1": 4, "Q5_0": 5, "Q5_1": 5, "Q8_0": 8, "Q4_K": 4, "Q5_K": 5, "Q6_K": 6}


def decoded(content: np.ndarray, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "BF16":
        return (content.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if kind in ("F32", "F16"):
        return content.view(kind.lower().replace("f", "float")).astype(np.float32).reshape(shape)
    return dequantize(content.reshape(shape[0], -1), GGMLQuantizationType[kind]).reshape(shape)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", *BITS])
def test_what_is_encoded_reads_back_close(kind: str) -> None:
    tensor = torch.randn(8, 512, generator=torch.Generator().manual_seed(0))
    content = encoded(tensor, kind)
    assert content.nbytes == bytes_of(kind, (8, 512))
    error = np.abs(decoded(content, kind, (8, 512)) - tensor.numpy()).mean()
    assert error < {"F32": 1e-9, "F16": 1e-3, "BF16": 5e-3}.get(kind, 3.0 * 2.0 ** -BITS.get(kind, 0))


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K"])
def test_threads_change_nothing(kind: str) -> None:
    tensor, weights = torch.randn(7, 256), np.random.default_rng(0).random(256, np.float32)
    assert np.array_equal(encoded(tensor, kind, weights), encoded(tensor, kind, weights, threads=3))
    assert encoded(tensor[:1], kind, threads=4).nbytes == bytes_of(kind, (1, 256))


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K", "Q5_K", "Q6_K"])
def test_important_columns_are_rounded_less(kind: str) -> None:
    tensor = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    weights = np.where(np.arange(256) % 4 == 0, 100.0, 0.01).astype(np.float32)
    errors = [
        (np.square(decoded(encoded(tensor, kind, given), kind, (64, 256)) - tensor.numpy()) * weights).sum()
        for given in (None, weights)
    ]
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize(
    ("wanted", "width", "kind"),
    [
        ("Q4_K", 512, "Q4_K"),
        ("Q4_K", 576, "Q5_0"),
        ("Q5_K", 576, "Q5_1"),
        ("Q6_K", 576, "Q8_0"),
        ("Q4_0", 96, "Q4_0"),
        ("Q8_0", 100, "F16"),
        ("Q4_K", 100, "F16"),
        ("F16", 7, "F16"),
    ],
)
def test_rows_that_are_no_whole_blocks_get_what_llama_cpp_gives_them(wanted: str, width: int, kind: str) -> None:
    assert fitting_type(wanted, width) == kind


def kinds(scheme: str, part: str, depth: int = 16) -> str:
    """The types of one tensor over the blocks, by their first digit."""
    return "".join(
        wanted_type(scheme, f"blk.{i}.{part}", 2, depth, tied=True, calibrated=False)[1] for i in range(depth)
    )


def test_mixtures_are_those_of_llama_cpp() -> None:
    assert kinds("q4_k_m", "attn_v.weight") == kinds("q4_k_m", "ffn_down.weight") == "6644644644644666"
    assert kinds("q4_k_m", "attn_q.weight") == "4" * 16
    assert kinds("q5_k_m", "ffn_down.weight") == "6655655655655666"
    assert kinds("q6_k", "ffn_up.weight") == "6" * 16


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_vectors_and_positions_are_never_rounded(scheme: str) -> None:
    for name, dims in (("blk.0.attn_norm.weight", 1), ("blk.0.attn_q.bias", 1), ("position_embd.weight", 2)):
        assert wanted_type(scheme, name, dims, 4, tied=True, calibrated=False) == "F32"


def test_the_output_product_gets_more_bits() -> None:
    assert wanted_type("q4_0", "token_embd.weight", 2, 4, tied=True, calibrated=False) == "Q6_K"
    assert wanted_type("q4_0", "token_embd.weight", 2, 4, tied=False, calibrated=False) == "Q4_0"
    assert wanted_type("q4_k_m", "output.weight", 2, 4, tied=False, calibrated=False) == "Q6_K"
    assert wanted_type("q8_0", "output.weight", 2, 4, tied=False, calibrated=False) == "Q8_0"
    assert wanted_type("q4_0", "blk.0.ffn_down.weight", 2, 8, tied=True, calibrated=True) == "Q4_1"
