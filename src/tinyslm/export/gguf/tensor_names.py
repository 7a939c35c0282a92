"""Tensors under two names: a GGUF file's and a `Decoder`'s, with what happens to their values on the way.

A table of `Part`s is read in both directions: writing takes the `Decoder`'s tensors apart from left to right, reading
from right to left. `{}` in a name is the block's number.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinyslm.core.errors import TinyslmError

OUTPUT = "output.weight"

Sizes = tuple[int, int]  # query heads, key and value heads


@dataclass(frozen=True)
class Part:
    """One GGUF tensor and the `Decoder` tensors it holds, stacked along the output axis.

    change: "" for the values as they are; "q" or "k" where rows are reordered for llama.cpp's rotation of neighbouring
    pairs; "norm" where 1 is added, because our norm multiplies by 1 + w and llama.cpp's by w.
    """

    outside: str
    inside: Sequence[str]
    change: str = ""
    required: bool = True
    """Whether llama.cpp refuses a file without it."""
    written: bool = True
    """False for a form that is only read: other converters write it."""

    def at(self, index: int) -> "Part":
        """The part in block `index`."""
        outside, inside = (
            self.outside.replace("{}", str(index)),
            [name.replace("{}", str(index)) for name in self.inside],
        )
        return Part(outside, inside, self.change, self.required, self.written)


def expanded(parts: Sequence[Part], depth: int) -> Iterator[Part]:
    """The parts with every block's number put in, outer tensors first."""
    yield from (part for part in parts if "{}" not in part.outside)
    for index in range(depth):
        yield from (part.at(index) for part in parts if "{}" in part.outside)


def written_parts(parts: Sequence[Part], names: Collection[str], depth: int, *, tied: bool) -> list[Part]:
    """The parts that a model with tensors of these `names` fills; raises `TinyslmError` if one has no place.

    Where llama.cpp demands an output product of its own, a tied model's is a copy of the embeddings.
    """
    here = [part for part in expanded(parts, depth) if part.written and all(name in names for name in part.inside)]
    placed = {name for part in here for name in part.inside}
    if left := sorted(set(names) - placed):
        raise TinyslmError(
            f"llama.cpp has no place for the tensor {left[0]} in this architecture.",
            "Export to another format, or train a model of another family.",
        )
    filled = {part.outside for part in here}
    for part in expanded(parts, depth):
        if not part.required or not part.written or part.outside in filled:
            continue
        if part.outside == OUTPUT and tied:
            here.append(Part(OUTPUT, ["model.embed_tokens.weight"]))
            continue
        raise TinyslmError(
            f"llama.cpp demands a tensor {part.outside}, which this model does not have.",
            "Export to another format, or train a model of another family.",
        )
    return here


def to_gguf(part: Part, tensors: Mapping[str, Tensor], sizes: Sizes) -> Tensor:
    """The values of one GGUF tensor."""
    change = _TO_GGUF[part.change]
    pieces = [change(tensors[name], sizes) for name in part.inside]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def from_gguf(
    parts: Sequence[Part], tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size], sizes: Sizes, depth: int
) -> Iterator[tuple[str, Tensor]]:
    """A GGUF file's tensors as a `Decoder`'s, one at a time; `expected` has the shape of every `Decoder` tensor.

    `tensors` may load lazily. Tensors without a place are not looked at; the caller knows which it may ignore.
    """
    for part in expanded(parts, depth):
        if part.outside not in tensors or not all(name in expected for name in part.inside):
            continue
        rows = [expected[name][0] for name in part.inside]
        tensor = tensors[part.outside]
        if tensor.shape[0] != sum(rows):
            raise TinyslmError(
                f"The tensor {part.outside} has {tensor.shape[0]} rows instead of {sum(rows)}.",
                "The file is damaged, or not of the architecture that it names.",
            )
        for name, piece in zip(part.inside, tensor.split(rows), strict=True):
            yield name, _FROM_GGUF[part.change](piece, sizes)


def known_names(parts: Sequence[Part], depth: int) -> set[str]:
    """Every GGUF tensor name that the table can read."""
    return {part.outside for part in expanded(parts, depth)}


def neighbours(rows: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys for rotation of neighbouring pairs, from rows for rotation of two halves.

    Row i of a head's first half goes to 2i, row i of its second half to 2i + 1 (llama.cpp's `permute`).
    """
    paired: Tensor = rows.unflatten(0, (heads, 2, -1))
    return paired.transpose(1, 2).flatten(0, 2)


def halves(rows: Tensor, heads: int) -> Tensor:
    """The inverse of `neighbours`."""
    paired: Tensor = rows.unflatten(0, (heads, -1, 2))
    return paired.transpose(1, 2).flatten(0, 2)


_Change = Callable[[Tensor, Sizes], Tensor]
_TO_GGUF: Mapping[str, _Change] = {
    "": lambda tensor, _: tensor,
    "q": lambda tensor, sizes: neighbours(tensor, sizes[0]),
    "k": lambda tensor, sizes: neighbours(tensor, sizes[1]),
    "norm": lambda tensor, _: tensor + 1,
}
_FROM_GGUF: Mapping[str, _Change] = {
    "": lambda tensor, _: tensor,
    "q": lambda tensor, sizes: halves(tensor, sizes[0]),
    "k": lambda tensor, sizes: halves(tensor, sizes[1]),
    "norm": lambda tensor, _: tensor - 1,
}


def _pair(outside: str, inside: str, *, bias: bool, required_bias: bool = False, change: str = "") -> list[Part]:
    """The weight and, where the architecture can have one, the bias of one product or norm."""
    parts = [Part(f"{outside}.weight", [f"{inside}.weight"], change)]
    return [*parts, Part(f"{outside}.bias", [f"{inside}.bias"], change, required=required_bias)] if bias else parts


def outer(
    *,
    learned: bool = False,
    layer_norm: bool = False,
    norm: str = "",
    head_bias: bool = False,
    own_output: bool = False,
    output: bool = True,
) -> list[Part]:
    """Embeddings, the final norm and the output product.

    norm: the change of norms. own_output: whether llama.cpp demands an output product even where it is the embedding.
    output: whether it can have an output product that is not the embedding.
    """
    parts = [Part("token_embd.weight", ["model.embed_tokens.weight"])]
    parts += [Part("position_embd.weight", ["model.embed_positions.weight"])] if learned else []
    parts += _pair("output_norm", "model.norm", bias=layer_norm, required_bias=True, change=norm)
    parts += [Part(OUTPUT, ["lm_head.weight"], required=own_output)] if output else []
    return [*parts, Part("output.bias", ["lm_head.bias"])] if head_bias else parts


def norms(places: Mapping[str, str], *, layer_norm: bool = False, change: str = "") -> list[Part]:
    """The norms of a block: GGUF's name -> ours."""
    parts = []
    for theirs, ours in places.items():
        parts += _pair(
            f"blk.{{}}.{theirs}", f"model.layers.{{}}.{ours}", bias=layer_norm, required_bias=True, change=change
        )
    return parts


def attention(*, neighbouring: bool = False, fused: bool = False, biases: str = "") -> list[Part]:
    """Queries, keys, values and output; the other way of storing the first three, fused or not, is read too.

    biases: "" for none, "optional", or "required".
    """
    has, must = biases != "", biases == "required"
    changes = ("q", "k", "") if neighbouring else ("", "", "")
    inside = [f"model.layers.{{}}.self_attn.{letter}_proj" for letter in "qkv"]
    parts = []
    for kind in ("weight", "bias") if has else ("weight",):
        required = must if kind == "bias" else True
        stacked = [f"{name}.{kind}" for name in inside]
        if not neighbouring:
            parts.append(Part(f"blk.{{}}.attn_qkv.{kind}", stacked, required=required and fused, written=fused))
        for letter, name, change in zip("qkv", stacked, changes, strict=True):
            must_be = required and not fused
            parts.append(Part(f"blk.{{}}.attn_{letter}.{kind}", [name], change, required=must_be, written=not fused))
    output = "model.layers.{}.self_attn.o_proj"
    return parts + _pair("blk.{}.attn_output", output, bias=has, required_bias=must)


def qk_norms(change: str = "") -> list[Part]:
    """The norms of queries and keys."""
    return [
        Part(f"blk.{{}}.attn_{letter}_norm.weight", [f"model.layers.{{}}.self_attn.{letter}_norm.weight"], change)
        for letter in "qk"
    ]


def feed_forward(*, gated: bool = True, fused: bool = False, biases: str = "") -> list[Part]:
    """The products of the feed-forward; `fused` stacks gate and up (Phi-3)."""
    has, must = biases != "", biases == "required"
    inside = "model.layers.{}.mlp."
    if fused:
        up = [Part("blk.{}.ffn_up.weight", [f"{inside}gate_proj.weight", f"{inside}up_proj.weight"])]
        return [*up, Part("blk.{}.ffn_down.weight", [f"{inside}down_proj.weight"])]
    parts = []
    for name in ("gate", "up", "down") if gated else ("up", "down"):
        parts += _pair(f"blk.{{}}.ffn_{name}", f"{inside}{name}_proj", bias=has, required_bias=must)
    return parts
