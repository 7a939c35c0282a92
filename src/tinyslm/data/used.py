"""What a run learned from: `data.json` in its folder."""

from dataclasses import asdict, dataclass
from pathlib import Path

from tinyslm.core.files import MANIFEST, sha256_file, write_json
from tinyslm.core.json_files import read_json
from tinyslm.data.shard_cache import data_folder, origin_of

DATA_FILE = "data.json"


@dataclass(frozen=True)
class DataUsed:
    """The content of `data.json`: the data's folder, relative to the run folder, and the hash of its manifest.

    base_weights: the hash of the weights that the run starts from; "" if it starts from new ones. origin: the address
    of shards in object storage, of which the folder is the cache.
    """

    folder: str
    manifest_sha256: str
    base_weights: str = ""
    origin: str = ""

    def place(self, run: Path) -> Path:
        """The data's folder. Raises `TinyslmError` if it is in object storage, and cannot be read."""
        return data_folder(self.origin or self.folder, run)


def note_data(run: Path, data: Path, base_weights: str = "") -> None:
    """Write the `data.json` of a run that learns from the prepared data in a folder. Raises `DiskError`."""
    here, place = run.resolve(), data.resolve()
    folder = place.relative_to(here) if place.is_relative_to(here) else place
    used = DataUsed(str(folder), sha256_file(data / MANIFEST), base_weights, origin_of(data))
    write_json(run / DATA_FILE, asdict(used))


def data_of(model: Path) -> Path | None:
    """The folder of prepared data that a run learned from; None if it is not known, is gone, or was made anew since.

    model: a run folder, or the model folder in one. Raises `TinyslmError` if the run's `data.json` is damaged.
    """
    for run in (model, model.resolve().parent):
        if (run / DATA_FILE).is_file():
            used = read_json(run / DATA_FILE, DataUsed)
            manifest = run / used.folder / MANIFEST
            intact = manifest.is_file() and sha256_file(manifest) == used.manifest_sha256
            return manifest.parent if intact else None
    return None
