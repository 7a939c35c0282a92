"""The model of a run that has not ended: the weights that did best in a validation so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import read_manifest
from tinyslm.core.json_files import read_json
from tinyslm.data.used import DataUsed
from tinyslm.training.checkpoint import load_weights
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.stages import first_model, open_stage, save_result
from tinyslm.training.world import World

TRIES = 3
"""A run that trains may remove the weights while they are read, as soon as it has better ones."""


@contextmanager
def best_so_far(run: Path) -> Iterator[tuple[Path, int]]:
    """A model folder with the best weights so far of the run in a folder, and their step; it is removed at the end.

    The run may be training. Raises `TinyslmError` for a run that was never validated.
    """
    with TemporaryDirectory(prefix="tinyslm-") as place:
        for left in reversed(range(TRIES)):
            found = _newest_best(run)
            try:
                read_manifest(found)
                step = _write_model(run, found, RunFolder(Path(place) / "run"))
                break
            except (OSError, TinyslmError):
                if not left or found.is_dir():
                    raise
        yield Path(place) / "run" / "model", step


def _newest_best(run: Path) -> Path:
    """Each weights that are kept did better than those before them."""
    found = sorted((run / "checkpoints").glob("best-*"), key=_step)
    if not found:
        raise TinyslmError(
            f"The run in {run} has not been validated yet: it has no weights to use.",
            f"Wait for its first validation; if it was stopped, resume it: tinyslm train --resume {run}",
        )
    return found[-1]


def _step(best: Path) -> int:
    return int(best.name.removeprefix("best-"))


def _write_model(run: Path, best: Path, out: RunFolder) -> int:
    """Write the model folder `out.model`; returns the step."""
    folder = RunFolder.open(run)
    config = folder.read_config()
    stage, config = open_stage(read_json(folder.data_file, DataUsed).place(folder.path), config, World.current())
    model = first_model(config, torch.device("cpu"))
    load_weights(best, model)
    save_result(model, stage.tokenizer, config, out, {"step": _step(best)})
    return _step(best)
