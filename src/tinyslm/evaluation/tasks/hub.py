"""Download benchmarks from the Hugging Face hub as JSON lines."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.printable import one_line


@contextmanager
def download(name: str, place: tuple[str, str, str]) -> Iterator[Path]:
    """A temporary file with the rows of a dataset; exists until the block ends.

    place: the dataset's name, its configuration ("*" for all) and its split. Raises `TinyslmError` if the download
    fails.
    """
    try:
        import datasets
    except ImportError:
        raise require_extra("hub", f"Downloading {name} from the hub") from None
    dataset, config, split = place
    try:
        configs = datasets.get_dataset_config_names(dataset) if config == "*" else [config]
        parts = [datasets.load_dataset(dataset, one, split=split) for one in configs]
    except Exception as error:  # of many kinds: the network's, the hub's, the library's
        raise TinyslmError(
            f"Could not download {dataset} from the hub: {type(error).__name__}: {one_line(str(error), 200)}",
            f"Check the network connection, or give a file: {name}=FILE",
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for row in chain.from_iterable(parts):
                file.write(json.dumps(row, default=str) + "\n")
        yield path
