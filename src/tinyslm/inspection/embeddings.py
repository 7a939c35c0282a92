"""The table of token embeddings as a space: which tokens are near each other, and a map in two dimensions.

Shape legend: n tokens, v vocabulary, d dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


@dataclass(frozen=True)
class Axes:
    """The two directions in which some points differ most: the first two principal components.

    directions: `[2, d]`, orthonormal; the largest number of each is positive. shares: the share of the points' variance
    along each.
    """

    directions: Array
    shares: tuple[float, float]

    @classmethod
    def of(cls, points_nd: Array) -> Axes:
        """The axes of at least two points that differ."""
        centred_nd = points_nd - points_nd.mean(0)
        _, sizes, directions = np.linalg.svd(centred_nd.astype(np.float64), full_matrices=False)
        two = directions[:2]
        signs = np.sign(two[np.arange(len(two)), np.abs(two).argmax(1)])
        shares = sizes**2 / max(1e-12, float((sizes**2).sum()))
        return cls(two * signs[:, None], (float(shares[0]), float(shares[1])))

    def place(self, points_nd: Array) -> tuple[Array, tuple[float, float]]:
        """The points along these axes, centred, `[n, 2]`, and the share of their variance along each."""
        centred_nd = points_nd - points_nd.mean(0)
        placed: Array = centred_nd @ self.directions.T
        total = max(1e-12, float((centred_nd.astype(np.float64) ** 2).sum()))
        first, second = (float(value) / total for value in (placed**2).sum(0))
        return placed, (first, second)


@torch.inference_mode()
def nearest(table_vd: Tensor, ids: Sequence[int], most: int) -> tuple[Array, Array]:
    """The tokens most similar to each of `ids`, without itself, and their cosines: `[n, most]` both, best first."""
    unit_vd = torch.nn.functional.normalize(table_vd.float(), dim=-1)
    chosen = torch.tensor(list(ids))
    cosines_nv = unit_vd[chosen] @ unit_vd.T
    cosines_nv[torch.arange(len(chosen)), chosen] = -torch.inf
    best = cosines_nv.topk(min(most, len(table_vd) - 1), -1)
    return best.indices.numpy(), best.values.numpy()


def cosine(one_d: Tensor, other_d: Tensor) -> tuple[float, float, float]:
    """The product of two vectors, and the length of each; the cosine is the first divided by the others."""
    return float(one_d @ other_d), float(one_d.norm()), float(other_d.norm())
