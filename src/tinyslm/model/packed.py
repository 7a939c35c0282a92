"""Quantized weights in memory: packed matrices, and the layers that compute with them.

A packed matrix of 8 bits has one scale for each row; one of 4 bits has a scale for each group of 32, 64 or 128
values along a row, and two codes share a byte. A value is `code * scale`, or `(code - 8) * scale` in 4 bits.

Shape legend: b rows of activations, o rows of a matrix (outputs), i its columns (inputs), n = i / group.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyslm.model.decoder import Decoder

GROUPS = (128, 64, 32)
"""Group sizes in 4 bits."""
FEW_ROWS = {4: 64, 8: 16}
"""By bits: with more rows of activations than this, unpacking the matrix first is faster (measured)."""

_MULTIPLY_4 = torch.ops.aten._weight_int4pack_mm_for_cpu.default
_MULTIPLY_8 = torch.ops.aten._weight_int8pack_mm.default
_ZERO = 8  # the code of the value 0 in 4 bits
_KERNEL_ROWS = 16  # PyTorch's 4-bit kernel needs a multiple of this
_KERNEL_COLUMNS = 16  # its 8-bit kernel is wrong, or crashes, where the width is not a multiple of this
_ALIGNMENT = 64  # bytes; its 8-bit kernel crashes on addresses that are not multiples of 32


class Layout(NamedTuple):
    """How a matrix is packed: bits of a code (4 or 8), and how many values share a scale (0: a whole row)."""

    bits: int
    group_size: int = 0


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
        return Layout(8) if self.codes.dtype == torch.int8 else Layout(4, self.shape[1] // self.scale.shape[1])

    @property
    def shape(self) -> torch.Size:
        """Of the matrix: `[o, i]`."""
        rows, columns = self.codes.shape
        return torch.Size((rows, columns if self.codes.dtype == torch.int8 else 2 * columns))

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix `[o, i]`; exact in fp32."""
        if self.codes.dtype == torch.int8:
            return self.codes.to(dtype) * self.scale.to(dtype).unsqueeze(-1)
        halves = torch.stack((self.codes & 15, self.codes >> 4), -1).flatten(-2)
        groups: Tensor = halves.unflatten(-1, (self.scale.shape[-1], -1)).to(dtype)
        return groups.sub_(_ZERO).mul_(self.scale.to(dtype).unsqueeze(-1)).flatten(-2)


def pack(codes_oi: Tensor, scale: Tensor, bits: int) -> PackedTensor:
    """Signed codes (-128 to 127, or -8 to 7 in 4 bits) and their bf16 scales as a packed matrix."""
    assert scale.dtype == torch.bfloat16, scale.dtype
    if bits == 8:
        return PackedTensor(codes_oi.to(torch.int8), scale)
    unsigned = (codes_oi + _ZERO).to(torch.uint8)
    return PackedTensor(unsigned[:, 0::2] | (unsigned[:, 1::2] << 4), scale)


class PackedLinear(nn.Module):
    """A linear layer over a packed matrix; takes and gives activations of any floating type.

    On a CPU, few rows are multiplied in bf16 by PyTorch's packed kernels, which read the codes directly and are fast
    in no other type. For many rows, for gradients and on other devices, the matrix is unpacked into the activations'
    type (under autocast, into that of the products) and dropped again; it has no gradient itself. In 4 bits, the
    kernel needs the codes in an order of its own: they are held twice from its first use on, unless `unpacks_always`.
    """

    adapter: Any
    weight_packed: Tensor
    weight_scale: Tensor
    unpacks_always = False
    _kernel: tuple[Tensor, Tensor] | None = None

    def __init__(self, weight: PackedTensor, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bits, self._group = weight.layout
        self.register_buffer("weight_packed", weight.codes)
        self.register_buffer("weight_scale", weight.scale)
        self._most_rows = FEW_ROWS[self.bits] if self.bits == 4 or self.in_features % _KERNEL_COLUMNS == 0 else 0
        self.bias = None if bias is None else bias.requires_grad_(False)
        self.register_module("adapter", None)

    def forward(self, x: Tensor) -> Tensor:
        """[..., i] to [..., o]."""
        y = self._product(x)
        out: Tensor = y if self.adapter is None else self.adapter(x, y, self)
        return out

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix unpacked, `[o, i]`."""
        return PackedTensor(self.weight_packed, self.weight_scale).dense(dtype)

    def _product(self, x: Tensor) -> Tensor:
        rows = x.shape[:-1].numel()
        trains = torch.is_grad_enabled() and (x.requires_grad or self.adapter is not None)
        if rows > self._most_rows or x.device.type != "cpu" or trains or self.unpacks_always:
            if torch.is_autocast_enabled(x.device.type):
                x = x.to(torch.get_autocast_dtype(x.device.type))
            y: Tensor = UnpackedProduct.apply(x, self.weight_packed, self.weight_scale)  # type: ignore[no-untyped-call]
        else:
            y = self._multiply(x.reshape(rows, -1).bfloat16()).to(x.dtype).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def _multiply(self, x_bi: Tensor) -> Tensor:
        """bf16 [b, i] to bf16 [b, o] with the packed kernels."""
        if self.bits == 8:
            y_bo: Tensor = _MULTIPLY_8(_aligned(x_bi), _aligned(self.weight_packed), self.weight_scale)
            return y_bo
        if self._kernel is None:
            self._kernel = _for_kernel(PackedTensor(self.weight_packed, self.weight_scale))
        codes, scale = self._kernel
        y_bo = _MULTIPLY_4(x_bi, codes, self._group, scale)
        return y_bo[:, : self.out_features]


class UnpackedProduct(torch.autograd.Function):
    """x W^T with a packed W, which is unpacked here and once more for the gradient of x: no dense copy is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
        """`[..., i]` to `[..., o]`, in the type of x."""
        ctx.save_for_backward(codes, scale)
        return F.linear(x, PackedTensor(codes, scale).dense(x.dtype))

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of x; packed weights have none."""
        return d_y @ PackedTensor(*ctx.saved_tensors).dense(d_y.dtype), None, None


class StoredEmbedding(nn.Module):
    """A token table in the type in which it is stored; its rows are converted to `dtype` when they are looked up."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of any shape to [..., i]."""
        return F.embedding(ids, self.weight).to(self.dtype)


def install(
    model: Decoder, tensors: Mapping[str, Tensor | PackedTensor], *, dtype: torch.dtype, dense: bool
) -> dict[str, Tensor]:
    """Put packed layers in the place of the model's (on the meta device) that have packed matrices.

    Returns the tensors that the model loads in the ordinary way, as `dtype`: the unpacked ones, and with `dense` all.
    The token table of a packed model stays in the type in which it is stored, unless the output projection shares it.
    """
    dense = dense or not any(isinstance(tensor, PackedTensor) for tensor in tensors.values())
    ordinary: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = name.rpartition(".")[0]
        module = model.get_submodule(place)
        if isinstance(tensor, PackedTensor):
            if dense:
                ordinary[name] = tensor.dense(dtype)
            else:
                assert isinstance(module, nn.Linear), name
                model.set_submodule(place, PackedLinear(tensor, module.bias))
        elif module is model.model.embed_tokens and not (dense or model.config.tied):
            model.set_submodule(place, StoredEmbedding(tensor, dtype))
        else:
            ordinary[name] = tensor.to(dtype)
    return ordinary


def hold_once(model: Decoder) -> None:
    """Never use the kernels for few rows, which need the packed matrices a second time: for training."""
    for module in model.modules():
        if isinstance(module, PackedLinear):
            module.unpacks_always = True


def is_packed(model: Decoder) -> bool:
    """Whether any of the model's matrices are packed."""
    return any(isinstance(module, PackedLinear) for module in model.modules())


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy, at an address that kernels can read from; files map tensors to any."""
    return tensor.clone() if tensor.data_ptr() % _ALIGNMENT else tensor


def _for_kernel(weight: PackedTensor) -> tuple[Tensor, Tensor]:
    """Codes in the order of this processor's 4-bit kernel, and bf16 scales with zero points (0 here) `[n, o, 2]`."""
    missing = -len(weight.codes) % _KERNEL_ROWS
    codes, scale = F.pad(weight.codes, (0, 0, 0, missing)), F.pad(weight.scale, (0, 0, 0, missing))
    halves_oi = torch.stack((codes & 15, codes >> 4), -1).flatten(-2).int()
    kernel_codes: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(halves_oi, 1)
    return kernel_codes, torch.stack((scale, torch.zeros_like(scale)), -1).transpose(0, 1).contiguous()
