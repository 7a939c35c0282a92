"""The run folder: everything that one run wrote, and what is needed to go on with it."""

import platform
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tinyslm.core.config import build_config, differences, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import MANIFEST, disk_error, read_manifest, sha256_file, write_json
from tinyslm.core.json_files import read_json
from tinyslm.core.locks import Lock
from tinyslm.data.shards import Shards
from tinyslm.data.used import DATA_FILE, DataUsed, note_data
from tinyslm.model.folder import find_model
from tinyslm.model.weights import weights_hash
from tinyslm.training.checkpoint import best_name, checkpoint_name
from tinyslm.training.config import RunConfig
from tinyslm.training.verdict_section import BEFORE_FILE
from tinyslm.training.world import World

LIBRARIES = ("tinyslm", "torch", "numpy", "tokenizers", "tiktoken", "safetensors")


_DAMAGED = "Restore it from a copy, or start a new run with another --out."


class RunFolder:
    """The paths of a run folder, and the lock on it.

    `config.json`: the resolved settings. `data.json`: which data, and the hash of its manifest. `versions.json`.
    `deadline.json`: what a run with a given time has decided about its number of updates. `metrics.jsonl`: the log.
    `checkpoints/`, `snapshots/`. `before.json`, `after.json`: what was measured of a model before and after
    fine-tuning. At the end `result.json`, `model/`, `report.html` and `report.png`. With several processes, only the
    first one checks, locks and writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.json"
        self.data_file = path / DATA_FILE
        self.versions_file = path / "versions.json"
        self.deadline_file = path / "deadline.json"
        self.metrics_file = path / "metrics.jsonl"
        self.result_file = path / "result.json"
        self.checkpoints = path / "checkpoints"
        self.snapshots = path / "snapshots"
        self.model = path / "model"
        self.untrained = path / "untrained"
        self.adapter = path / "adapter"
        self.report = path / "report.html"
        self.data = path / "data"
        self._leads = World.current().leads
        self.lock = Lock(path / ".lock", path, needed=self._leads)

    def best(self, step: int) -> Path:
        """The weights that did best in a validation after `step`."""
        return self.checkpoints / best_name(step)

    def snapshot(self, step: int) -> Path:
        """The weights after `step` updates, of a run with `train.snapshots`."""
        return self.snapshots / checkpoint_name(step)

    def create(self, config: RunConfig, data: Path, versions: Mapping[str, str]) -> None:
        """Write what a new run uses, its settings last: with them, there is a run that can be resumed.

        versions: see `circumstances`. Raises `TinyslmError` if the folder holds a run, or cannot be written.
        """
        if not self._leads:
            return
        self.check_unused()
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(self.path, error) from error
        note_data(self.path, data, _base_weights(config))
        write_json(self.versions_file, dict(versions))
        write_json(self.config_file, config.model_dump(mode="json"))

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """A run folder that exists."""
        folder = cls(path)
        if not folder.config_file.is_file():
            raise TinyslmError(
                f"There is no run in {path}.", "Give the run folder of an earlier training (its --out) to --resume."
            )
        return folder

    def check_unused(self) -> None:
        """Raise `TinyslmError` when the folder holds a run, or anything else that is not ours to write over."""
        if not self._leads:
            return
        if self.config_file.exists():
            raise TinyslmError(
                f"{self.path} already holds a run.",
                f"Continue it with `tinyslm train --resume {self.path}`, or give another folder with --out.",
            )
        # A run that was killed before it wrote its settings had not begun: what it left is not in the way.
        ours = {self.data, self.data_file, self.versions_file, self.deadline_file, self.checkpoints, self.untrained}
        ours.add(self.path / BEFORE_FILE)
        others = [entry.name for entry in self.path.iterdir() if entry not in ours] if self.path.is_dir() else []
        others = [name for name in others if not name.startswith(".")]
        if others or self.path.is_file():
            raise TinyslmError(
                f"{self.path} already exists and is no run folder (it holds {', '.join(others[:3]) or 'a file'}).",
                "Give a new or empty folder with --out.",
            )

    def remove_leftovers(self) -> None:
        """Remove what a killed process left half written or half replaced."""
        for folder in (self.path, self.checkpoints) if self._leads else ():
            for pattern in (".*.tmp", ".*.old", ".*.lock"):
                for entry in folder.glob(pattern):
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def warn_of_changes(self, device: torch.device, dtype: torch.dtype, warn: Callable[[str], None]) -> None:
        """Tell what differs from when the run was started: its result may then differ in the last digits."""
        try:
            before = read_json(self.versions_file, dict[str, str]) if self.versions_file.is_file() else {}
        except TinyslmError as error:
            warn(f"{error.problem} Whether versions have changed since the start is not known.")
            return
        now = circumstances(device, dtype)
        changed = [f"{key}: {before[key]} -> {now[key]}" for key in now if before.get(key, now[key]) != now[key]]
        if changed:
            warn(f"The run was started with something else ({'; '.join(changed)}): its weights may differ slightly.")

    def read_config(self, changed: RunConfig | None = None) -> RunConfig:
        """The settings the run was started with; refuses to go on with others, naming the keys that differ."""
        config = build_config(RunConfig, read_json(self.config_file, remedy=_DAMAGED), origin=str(self.config_file))
        if changed is not None and (keys := differences(config, _with_decisions(changed, config))):
            raise TinyslmError(
                f"The settings differ from those that {self.path} was started with: {'; '.join(keys)}.",
                "A run is resumed with its own settings: leave these out, or start a new run with another --out.",
            )
        return config

    def result(self) -> dict[str, Any] | None:
        """The result of a run that has ended, else None."""
        ended = self.result_file.is_file() and self.report.is_file()  # the report is written last
        remedy = "Remove it, and resume the run to score it again."
        return read_json(self.result_file, remedy=remedy) if ended else None

    def checked_data(self, config: RunConfig) -> Path:
        """The folder of the run's data, with every file checked to be the one that the run was started with.

        So are the weights that the run starts from.
        """
        used = read_json(self.data_file, DataUsed, remedy=_DAMAGED)
        folder = used.place(self.path)
        if used.origin:
            Shards.open(folder)
        else:
            read_manifest(folder)
        if sha256_file(folder / MANIFEST) != used.manifest_sha256:
            raise TinyslmError(
                f"The data in {used.origin or folder} is not what {self.path} was started with.",
                "Restore it, or start a new run with another --out.",
            )
        if used.base_weights not in ("", _base_weights(config)):
            raise TinyslmError(
                f"The model in {config.train.start_from} has changed since {self.path} was started from it.",
                "Restore it, or start a new run with another --out.",
            )
        return folder


def _with_decisions(settings: RunConfig, run: RunConfig) -> RunConfig:
    """Settings with what a run decides itself: vocabulary (or the model it starts from), held-out tokens, compiling."""
    keys = ("validation_tokens", "score_tokens")
    train: dict[str, Any] = {key: getattr(settings.train, key) or getattr(run.train, key) for key in keys}
    if settings.train.compile == "auto":
        train["compile"] = run.train.compile
    model = run.model.model_dump() if run.train.start_from else {"vocab_size": run.model.vocab_size}
    decisions = {"model": model, "train": train}
    return build_config(RunConfig, merge(settings.model_dump(), decisions))


def _base_weights(config: RunConfig) -> str:
    """The hash of the weights that a run with these settings starts from, if any."""
    return weights_hash(find_model(Path(config.train.start_from))) if config.train.start_from else ""


def circumstances(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """The versions, device, number format, threads and processes that a run's exact result depends on."""
    return {
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "processes": str(World.current().size),
        **{name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
