"""A GGUF file where a model folder is wanted: imported once into the user's cache folder."""

from __future__ import annotations

from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from tinyslm.core.console import notice
from tinyslm.core.quantities import size
from tinyslm.export.gguf.importing import import_gguf
from tinyslm.hardware.compiling import user_cache
from tinyslm.model.weights import has_weights, weight_files


def model_folder_of(path: Path) -> Path:
    """`path` itself, or for a GGUF file the model folder imported from it, in the user's cache folder.

    The folder is found again while the file's path, size and time of change stay the same; it is whole or absent. No
    block format of GGUF holds the same values as a packed matrix here (Q8_0 has a scale for every 32 values, not for
    every row; Q4_0 has scales in half precision, not in bfloat16), so quantized values are stored unpacked.

    Raises `TinyslmError` for a file that cannot be imported.
    """
    if path.suffix != ".gguf" or not path.is_file():
        return path

    whole, found = path.resolve(), path.stat()
    key = sha256(repr((str(whole), found.st_size, found.st_mtime_ns, version("tinyslm"))).encode()).hexdigest()
    folder = user_cache() / "imported" / f"{path.stem}-{key[:16]}"
    if not has_weights(folder):
        notice(f"Importing {path} ({size(found.st_size)}) into {folder} ...")
        dtype = import_gguf(path, folder).dtype
        stored = sum(file.stat().st_size for file in weight_files(folder))
        notice(f"Imported: the weights take {size(stored)} in {dtype}. `tinyslm quantize` makes them smaller.")
    return folder
