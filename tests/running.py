"""Sequences through a runner, as an engine would take them there."""

import numpy as np
import torch
from torch import Tensor

from tinyslm.inference.runner import Rows, Runner


def logits_of(runner: Runner, ids_bt: Tensor, parts: list[int]) -> Tensor:
    """Logits `[b, t, v]` of sequences that are read in parts of so many tokens."""
    batch, length = ids_bt.shape
    blocks = -(-length // runner.block_size)
    tables = np.arange(batch * blocks, dtype=np.int32).reshape(batch, blocks)
    found, start = [], 0
    for part in parts:
        positions = np.tile(np.arange(start, start + part, dtype=np.int32), batch)
        rows = Rows(
            ids=ids_bt[:, start : start + part].flatten().numpy().astype(np.int32),
            positions=positions,
            sequences=np.repeat(np.arange(batch, dtype=np.int32), part),
            tables=tables,
            wanted=np.arange(batch * part, dtype=np.int32),
        )
        found.append(torch.from_numpy(runner.run(rows).copy()).view(batch, part, -1))
        start += part
    assert start == length, "the parts are not the whole"
    return torch.cat(found, 1)
