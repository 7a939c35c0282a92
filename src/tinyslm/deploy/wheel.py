"""tinyslm as a wheel, from the package that runs: a bundle carries it, so that nothing needs to be published first.

It has the files that `hatchling` puts into a wheel, but needs no build program and no source tree.
"""

import base64
import hashlib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import tinyslm
from tinyslm.core.errors import TinyslmError

NAME = "tinyslm"
BESIDE = ("recipes", "lessons")
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the date that ZIP has for every file: equal packages make equal wheels
_METADATA = ("METADATA", "WHEEL", "entry_points.txt", "licenses/LICENSE")


def build_wheel(folder: Path) -> Path:
    """Write the wheel of this tinyslm into `folder`.

    Raises `TinyslmError` where the package was not installed: then nothing says what it depends on.
    """
    try:
        installed = distribution(NAME)
    except PackageNotFoundError:
        raise TinyslmError(
            "The bundle carries tinyslm as a wheel, which cannot be built: this tinyslm was not installed by pip.",
            "Install it, from its source tree: python -m pip install .",
        ) from None
    information = f"{NAME}-{installed.version}.dist-info"
    files = dict(_package_files())
    for name in _METADATA:
        if (text := installed.read_text(name)) is not None:
            files[f"{information}/{name}"] = text.encode()
    if f"{information}/WHEEL" not in files:
        raise TinyslmError(
            "The bundle carries tinyslm as a wheel, which cannot be built: tinyslm was not installed from a wheel.",
            "Install it, from its source tree: python -m pip install .",
        )
    path = folder / f"{NAME}-{installed.version}-py3-none-any.whl"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(_entry(name), content)
        record = f"{information}/RECORD"
        archive.writestr(_entry(record), "".join([*map(_row, files, files.values()), f"{record},,\n"]))
    return path


def _package_files() -> Iterator[tuple[str, bytes]]:
    """Names in the wheel and contents; of a source tree also `BESIDE`, which an installed package has inside."""
    package = Path(tinyslm.__file__).parent
    tree = package.parents[1]
    places = [(package, NAME)]
    if (tree / "pyproject.toml").is_file():
        places += [(tree / name, f"{NAME}/{name}") for name in BESIDE if (tree / name).is_dir()]
    for folder, prefix in places:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".so":  # compiled here
                yield f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes()


def _entry(name: str) -> ZipInfo:
    entry = ZipInfo(name, EARLIEST)
    entry.compress_type = ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _row(name: str, content: bytes) -> str:
    """The line of `RECORD` for a file."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"
