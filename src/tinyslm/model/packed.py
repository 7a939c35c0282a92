"""Packed weights: matrices kept in 4 or 8 bits, and the layers that compute with them.

A packed matrix of 8 bits has one scale for each row; one of 4 bits has a scale for each group of 32, 64 or 128
values along a row, and its codes lie two to a byte. A value is `code * scale`, or `(code - 8) * scale` in 4 bits.

In a model folder the matrix `NAME` is stored as `NAME_packed` and `NAME_scale`, under the `Decoder`'s own names
whatever the family; `quantization_config` in `config.json` names every packed matrix and its layout.

Shape legend: b rows of activations, o rows of a matrix (outputs), i its columns (inputs), n = i / group.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from tinyslm.core.config import Section, build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.model.decoder import Decoder

QUANT_METHOD = "tinyslm"
GROUPS = (128, 64, 32)
PACKED, SCALE = "_packed", "_scale"
FEW_ROWS = {4: 64, 8: 16}
"""By bits: with more rows of activations than this, unpacking the matrix first is the faster way (measured)."""

_MULTIPLY_4 = torch.ops.aten._weight_int4pack_mm_for_cpu.default
_MULTIPLY_8 = torch.ops.aten._weight_int8pack_mm.default
_ZERO = 8  # the code of the value 0 in 4 bits
_KERNEL_ROWS = 16  # PyTorch's 4-bit kernel wants a multiple of this
_KERNEL_COLUMNS = 16  # its 8-bit kernel is wrong, or crashes, where the width is no multiple of this
_ALIGNMENT = 64  # bytes; its 8-bit kernel crashes on addresses that are no multiple of 32


class Layout(Section):
    """How one matrix is packed."""

    bits: Literal[4, 8] = Field(description="Bits of one code.")
    group_size: Literal[0, 32, 64, 128] = Field(default=0, description="Values that share a scale (0: a whole row).")


class Packing(Section):
    """What `quantization_config` says: which matrices are packed, and how."""

    quant_method: Literal["tinyslm"] = Field(default="tinyslm", description="Whose format this is.")
    version: Literal[1] = Field(default=1, description="Of the format.")
    scheme: str = Field(description="The scheme that was asked for.")
    tensors: dict[str, Layout] = Field(description="The packed matrices by name.")


@dataclass(frozen=True)
class PackedTensor:
    """A packed matrix.

    codes: int8 `[o, i]`, or uint8 `[o, i / 2]` with the even columns in the low halves. scale: bf16 `[o]`, or
    `[o, n]`.
    """

    codes: Tensor
    scale: Tensor

    @property
    def layout(self) -> Layout:
        """Bits and group size."""
        if self.codes.dtype == torch.int8:
            return Layout(bits=8)
        return Layout.model_validate({"bits": 4, "group_size": self.shape[1] // self.scale.shape[1]})

    @property
    def shape(self) -> torch.Size:
        """Of the matrix: `[o, i]`."""
        rows, columns = self.codes.shape
        return torch.Size((rows, columns if self.codes.dtype == torch.int8 else 2 * columns))

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return self.codes.nbytes + self.scale.nbytes

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix `[o, i]`; exact in fp32."""
        return unpacked(self.codes, self.scale, dtype)

    def stored(self, name: str) -> dict[str, Tensor]:
        """The tensors of a model folder that hold the matrix `name`."""
        return {name + PACKED: self.codes, name + SCALE: self.scale}


def pack(codes_oi: Tensor, scale: Tensor, bits: int) -> PackedTensor:
    """Signed codes (-128 to 127, or -8 to 7 in 4 bits) and their bf16 scales as a packed matrix."""
    assert scale.dtype == torch.bfloat16, scale.dtype
    if bits == 8:
        return PackedTensor(codes_oi.to(torch.int8), scale)
    unsigned = (codes_oi + _ZERO).to(torch.uint8)
    return PackedTensor(unsigned[:, 0::2] | (unsigned[:, 1::2] << 4), scale)


def unpacked(codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The values of rows of a packed matrix: codes `[..., i]` or `[..., i / 2]` to `[..., i]`."""
    if codes.dtype == torch.int8:
        return codes.to(dtype) * scale.to(dtype).unsqueeze(-1)
    halves = torch.stack((codes & 15, codes >> 4), -1).flatten(-2)
    groups: Tensor = halves.unflatten(-1, (scale.shape[-1], -1)).to(dtype)
    return groups.sub_(_ZERO).mul_(scale.to(dtype).unsqueeze(-1)).flatten(-2)


class PackedLinear(nn.Module):
    """A linear layer over a packed matrix; takes and gives activations of any floating type.

    On a CPU, few rows are multiplied in bf16 by PyTorch's packed kernels, which read the codes as they are; they are
    fast in no other type. For many rows, and on other devices, the matrix is unpacked into the activations' type and
    dropped again. In 4 bits the codes are held twice, in the kernel's order too.
    """

    weight_packed: Tensor
    weight_scale: Tensor
    _kernel_codes: Tensor
    _kernel_scale: Tensor

    def __init__(self, weight: PackedTensor, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bits, self._group = weight.layout.bits, weight.layout.group_size
        self.register_buffer("weight_packed", weight.codes)
        self.register_buffer("weight_scale", weight.scale)
        self._most_rows = FEW_ROWS[self.bits] if self.bits == 4 or self.in_features % _KERNEL_COLUMNS == 0 else 0
        self.bias = None if bias is None else bias.requires_grad_(False)
        if self.bits == 4:
            codes, scale = _for_kernel(weight)
            self.register_buffer("_kernel_codes", codes, persistent=False)
            self.register_buffer("_kernel_scale", scale, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., i] to [..., o]."""
        rows = x.shape[:-1].numel()
        if rows > self._most_rows or x.device.type != "cpu":
            return F.linear(x, self.dense(x.dtype), self.bias)
        y = self._multiply(x.reshape(rows, -1).bfloat16()).to(x.dtype).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix `[o, i]`; exact in fp32."""
        return unpacked(self.weight_packed, self.weight_scale, dtype)

    def _multiply(self, x_bi: Tensor) -> Tensor:
        """bf16 [b, i] to bf16 [b, o] with the packed kernels."""
        if self.bits == 8:
            y_bo: Tensor = _MULTIPLY_8(_aligned(x_bi), _aligned(self.weight_packed), self.weight_scale)
            return y_bo
        y_bo = _MULTIPLY_4(x_bi, self._kernel_codes, self._group, self._kernel_scale)
        return y_bo[:, : self.out_features]


class PackedEmbedding(nn.Module):
    """A table of packed rows, unpacked as they are looked up."""

    weight_packed: Tensor
    weight_scale: Tensor

    def __init__(self, weight: PackedTensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = weight.shape
        self.dtype = dtype
        self.register_buffer("weight_packed", weight.codes)
        self.register_buffer("weight_scale", weight.scale)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of any shape to [..., i]."""
        return unpacked(self.weight_packed[ids], self.weight_scale[ids], self.dtype)

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The whole table; exact in fp32."""
        return unpacked(self.weight_packed, self.weight_scale, dtype)


def read_packing(hf: Mapping[str, Any], origin: str) -> Packing | None:
    """What a `config.json` says of packed matrices; `None` where it says nothing.

    Raises `TinyslmError` for other programs' quantization, naming it, and for what this version cannot read.
    """
    found = hf.get("quantization_config")
    if found is None:
        return None
    if not isinstance(found, Mapping):
        raise TinyslmError(f"quantization_config in {origin} holds no settings.", "Restore the folder from a copy.")
    method = found.get("quant_method")
    if method != QUANT_METHOD:
        raise TinyslmError(
            f'The weights are quantized by "{method}" (quantization_config in {origin}), which is not read here.',
            "Give the model folder that was not quantized; `tinyslm quantize` makes it small.",
        )
    return build_config(Packing, dict(found), origin=f"{origin}: quantization_config")


def packed_tensors(stored: Mapping[str, Tensor], packing: Packing, folder: Path) -> dict[str, Tensor | PackedTensor]:
    """A folder's tensors by the `Decoder`'s names: the packed ones put together, the others as they are.

    Raises `TinyslmError` when parts of a packed matrix are missing or do not fit each other.
    """
    tensors: dict[str, Tensor | PackedTensor] = dict(stored)
    for name, layout in packing.tensors.items():
        codes, scale = (tensors.pop(name + part, None) for part in (PACKED, SCALE))
        if not isinstance(codes, Tensor) or not isinstance(scale, Tensor) or not _fits(codes, scale, layout):
            raise TinyslmError(
                f"The packed weights in {folder} do not match its config.json: {name} is not one of {layout.bits} bits"
                + (f" in groups of {layout.group_size}." if layout.group_size else "."),
                "Restore the folder from a copy, or quantize the model again.",
            )
        tensors[name] = PackedTensor(_aligned(codes), scale)
    return tensors


def install(
    model: Decoder, tensors: Mapping[str, Tensor | PackedTensor], *, dtype: torch.dtype, dense: bool
) -> dict[str, Tensor]:
    """Put packed layers in the place of the model's (on the meta device) that have packed matrices.

    Returns the tensors that the model takes in the ordinary way: biases, norms, and what is unpacked here, which is
    everything with `dense`, else packed matrices that are neither linear layers nor the token table (learned
    positions). A tied output projection is put in place when its table is packed.
    """
    left: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = name.rpartition(".")[0]
        module = model.get_submodule(place)
        if not isinstance(tensor, PackedTensor):
            left[name] = tensor
        elif module is model.model.embed_tokens and not dense:
            model.set_submodule(place, PackedEmbedding(tensor, dtype))
            if model.config.tied:
                model.set_submodule("lm_head", PackedLinear(tensor, model.lm_head.bias))
        elif isinstance(module, nn.Linear) and not dense:
            model.set_submodule(place, PackedLinear(tensor, module.bias))
        else:
            left[name] = tensor.dense(dtype)
    return left


def is_packed(model: Decoder) -> bool:
    """Whether any of the model's matrices are packed."""
    return any(isinstance(module, PackedLinear | PackedEmbedding) for module in model.modules())


def _fits(codes: Tensor, scale: Tensor, layout: Layout) -> bool:
    """Whether codes and scales are of this layout."""
    if codes.ndim != 2 or scale.dtype != torch.bfloat16:
        return False
    if layout.bits == 8:
        return codes.dtype == torch.int8 and scale.shape == codes.shape[:1] and layout.group_size == 0
    groups, rest = divmod(2 * codes.shape[1], layout.group_size or 1)
    return codes.dtype == torch.uint8 and layout.group_size > 0 and not rest and scale.shape == (len(codes), groups)


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy, at an address that kernels can read from; files map tensors to any."""
    return tensor.clone() if tensor.data_ptr() % _ALIGNMENT else tensor


def _for_kernel(weight: PackedTensor) -> tuple[Tensor, Tensor]:
    """Codes in the order of this processor's 4-bit kernel, and bf16 scales with zero points (none here) `[n, o, 2]`."""
    missing = -len(weight.codes) % _KERNEL_ROWS
    codes, scale = F.pad(weight.codes, (0, 0, 0, missing)), F.pad(weight.scale, (0, 0, 0, missing))
    halves_oi = torch.stack((codes & 15, codes >> 4), -1).flatten(-2).int()
    kernel_codes: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(halves_oi, 1)
    return kernel_codes, torch.stack((scale, torch.zeros_like(scale)), -1).transpose(0, 1).contiguous()
