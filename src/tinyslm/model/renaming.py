"""Tensor names: a family's own, and a `Decoder`'s; one table, used in both directions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """One tensor of the folder, and the `Decoder` tensors it holds, one after another along the output axis.

    `{}` in the names is the block's number. transposed: folders that store `[in, out]` (GPT-2's Conv1D).
    by_head: the parts alternate head by head, each head with its query, key and value (GPT-NeoX).
    unused_rows: rows at the start of the folder's tensor that nothing reads; they are written as zeros (OPT).
    """

    outside: str
    inside: Sequence[str]
    transposed: bool = False
    by_head: bool = False
    unused_rows: int = 0


def same_layer_rules(names: Mapping[str, str], kinds: Sequence[str] = ("weight", "bias")) -> tuple[Rule, ...]:
    """Rules that only rename: outside -> inside, each for a weight and a bias."""
    return tuple(Rule(f"{outside}.{kind}", [f"{inside}.{kind}"]) for outside, inside in names.items() for kind in kinds)


def expanded(rules: Sequence[Rule], depth: int) -> Iterator[Rule]:
    """The rules with every block's number put in."""
    for rule in rules:
        for index in range(depth if "{}" in rule.outside else 1):
            inside = [name.replace("{}", str(index)) for name in rule.inside]
            yield replace(rule, outside=rule.outside.replace("{}", str(index)), inside=inside)


def joined(rule: Rule, parts: Sequence[Tensor], heads: int) -> Tensor:
    """The folder's tensor, of the parts that it holds."""
    if len(parts) == 1:
        whole = parts[0]
    elif rule.by_head:
        whole = torch.cat([part.unflatten(0, (heads, -1)) for part in parts], 1).flatten(0, 1)
    else:
        whole = torch.cat(list(parts))
    if rule.unused_rows:
        whole = torch.cat([whole.new_zeros(rule.unused_rows, *whole.shape[1:]), whole])
    return whole.t().contiguous() if rule.transposed else whole


def parted(rule: Rule, tensor: Tensor, rows: Sequence[int], heads: int) -> list[Tensor]:
    """The parts of a folder's tensor, of so many rows each; fewer, with other rows, where it does not fit them."""
    whole = (tensor.t().contiguous() if rule.transposed else tensor)[rule.unused_rows :]
    if len(rows) == 1:
        return [whole]
    if sum(rows) != whole.shape[0]:
        return list(whole.tensor_split(len(rows)))  # of a shape that will be refused
    if rule.by_head:
        by_head = whole.unflatten(0, (heads, -1)).split([count // heads for count in rows], 1)
        return [part.flatten(0, 1) for part in by_head]
    return [part.contiguous() for part in whole.split(list(rows))]
