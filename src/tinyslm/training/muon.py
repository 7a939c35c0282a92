"""Muon (Jordan et al., 2024): momentum whose update is made orthogonal, for the matrices inside the blocks.

Matrices of one shape are orthogonalised together, by a kernel (`kernels/orthogonal.py`) or in batched products, which
on small models is several times faster than one after the other; what is left are two passes over memory
(`kernels/update.py`). Where the rows of matrices are divided over processes, these make whole matrices orthogonal in
turns.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from tinyslm.hardware.device import pick_dtype
from tinyslm.model.kernels import orthogonal
from tinyslm.model.kernels.update import apply, follow
from tinyslm.training.sharding import in_turns
from tinyslm.training.world import World

# Coefficients of the quintic iteration, from Jordan et al.: they push singular values into about 0.7 to 1.2 quickly.
QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Steps each matrix by `lr` times its orthogonalised Nesterov momentum, after decoupled weight decay.

    The update is scaled by `sqrt(max(1, rows / columns))`, so that one learning rate suits all shapes.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        iterations: int = 5,
        rows: Mapping[Tensor, int] | None = None,
        world: World | None = None,
    ) -> None:
        """rows: of the whole matrices, for those whose rows are divided over the processes of `world`."""
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "iterations": iterations}
        super().__init__(parameters, defaults)
        self._rows, self._world = rows or {}, world or World()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        assert closure is None, "Muon takes one gradient a step"
        for group in self.param_groups:
            by_shape: dict[tuple[int, int, bool], list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    rows = self._rows.get(matrix, len(matrix))
                    by_shape[rows, matrix.shape[1], matrix in self._rows].append(matrix)
            for (rows, columns, divided), matrices in by_shape.items():
                self._step_together(matrices, rows, columns, divided, group)

    def _step_together(
        self, matrices: list[Tensor], rows: int, columns: int, divided: bool, group: dict[str, Any]
    ) -> None:
        """One step for matrices of one shape; or for this process's rows of them."""
        directions = matrices[0].new_empty(
            len(matrices), len(matrices[0]), columns, dtype=_products(matrices[0].device)
        )
        for matrix, direction in zip(matrices, directions, strict=True):
            assert matrix.grad is not None
            if matrix.numel():
                follow(matrix.grad, self._momentum(matrix), direction, group["momentum"])
        orthogonal = partial(orthogonalize, iterations=group["iterations"])
        changes = in_turns(directions, rows, self._world, orthogonal) if divided else orthogonal(directions)
        shrink = 1 - group["lr"] * group["weight_decay"]
        step = group["lr"] * max(1.0, rows / columns) ** 0.5
        for matrix, change in zip(matrices, changes, strict=True):
            if matrix.numel():
                apply(matrix, change, shrink, step)

    def _momentum(self, matrix: Tensor) -> Tensor:
        """The matrix's momentum; zeros at first."""
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        momentum: Tensor = state["momentum"]
        return momentum


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrix of each of `[n, rows, columns]`, roughly, in the type of fast products.

    A quintic Newton-Schulz iteration: x <- a x + x (b g + c g g) with g = x^T x, which drives all singular values
    towards one; for wide matrices the same from the left, as g is to be small.
    """
    x = matrices.to(_products(matrices.device))
    if orthogonal.suits(x):
        return orthogonal.iterate(x, iterations, QUINTIC)
    a, b, c = QUINTIC
    x = x / x.flatten(1).norm(dim=1).clamp_min(1e-7)[:, None, None]
    tall = x.shape[1] >= x.shape[2]
    for _ in range(iterations):
        gram = x.transpose(1, 2) @ x if tall else x @ x.transpose(1, 2)
        bent = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, x, bent, beta=a) if tall else torch.baddbmm(x, bent, x, beta=a)
    return x


@cache
def _products(device: torch.device) -> torch.dtype:
    """What to multiply there: bf16 is precise enough, but a CPU that only imitates it takes fifty times as long."""
    return pick_dtype(device)
