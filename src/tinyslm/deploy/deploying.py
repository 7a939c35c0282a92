"""Deploying a model: a bundle is written whole or not at all, with its model card, and checked before that."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import atomic_folder, write_atomic, write_json
from tinyslm.core.locks import new_output
from tinyslm.core.plugins import load_plugins
from tinyslm.data.documents import silent
from tinyslm.deploy.bundle import BUNDLES, Bundle, Contents, Progress
from tinyslm.deploy.container import CONTAINER
from tinyslm.deploy.page import PAGE
from tinyslm.deploy.settings import BundleSettings
from tinyslm.deploy.space import SPACE
from tinyslm.export.model_card import README, model_card
from tinyslm.model.folder import find_model, load_tokenizer, name_of, read_model_config
from tinyslm.model.weights import weight_files
from tinyslm.packs import PACKS

for _bundle in (PAGE, SPACE, CONTAINER):
    BUNDLES.add(_bundle.name, _bundle)

RECORD = "bundle.json"
"""What a bundle says of itself: its kind, the model, the version that wrote it, and what was checked."""


@dataclass(frozen=True)
class Deployed:
    """A bundle that was written: its files with their sizes in bytes, what was tried (nothing if it was not checked),
    the command that tries it, and the seconds that it took.
    """

    bundle: str
    folder: Path
    files: Mapping[str, int]
    checked: Mapping[str, str]
    usage: str
    seconds: float

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(self.files.values())


def deploy_model(
    model: str | Path,
    to: str,
    out: str | Path,
    *,
    settings: BundleSettings | None = None,
    check: bool = True,
    progress: Progress = silent,
) -> Deployed:
    """Make a folder that is ready to publish from a model folder or a run folder, and prove that it works.

    to: a bundle, such as "space". Raises `TinyslmError` for an unknown bundle, a model that cannot be read or that the
    bundle cannot have, an output folder that exists, and a bundle that does not pass its check: then nothing is left.
    """
    started = time.monotonic()
    load_plugins()
    bundle, settings, out = BUNDLES[to], settings or BundleSettings(), Path(out)
    contents = _contents(Path(model), bundle, settings)
    card = model_card(
        contents.model,
        title=contents.title,
        licence=settings.licence,
        scores=settings.scores,
        limits=bundle.limits(contents),
    )
    with new_output(out):
        bundle.accept(contents)
        checked: Mapping[str, str] = {}
        with atomic_folder(out) as folder:
            bundle.write(contents, folder, progress)
            write_atomic(folder / README, card.render(bundle.metadata(contents, card.metadata)))
            if check:
                checked = _checked(bundle, contents, folder, progress)
            write_json(folder / RECORD, _record(bundle, contents, checked))
    usage = bundle.usage(contents, out)
    return Deployed(bundle.name, out, sizes(out), checked, usage, time.monotonic() - started)


def sizes(folder: Path) -> dict[str, int]:
    """The files of a folder, and of folders below it, with their sizes in bytes."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}


def _contents(given: Path, bundle: Bundle, settings: BundleSettings) -> Contents:
    """What the bundle is made from; everything in the model folder but its weights is read."""
    model = find_model(given)
    read_model_config(model)  # raises if the folder is not a model, or if its family is unknown
    weight_files(model)
    load_tokenizer(model)
    pack = PACKS[settings.pack].name if settings.pack else ""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name_of(model)).strip("-.") or "model"
    title, sdk = settings.title.strip() or name, _sdk(bundle, settings.sdk)
    return Contents(model, name, title, pack, sdk, settings.fresh, settings.runtime)


def _sdk(bundle: Bundle, given: str | None) -> str:
    if given and given not in bundle.sdks:
        other = next((one for one in BUNDLES if given in BUNDLES[one].sdks), "")
        raise TinyslmError(f"--sdk {given} is not for --to {bundle.name}.", f"Leave it out, or use --to {other}.")
    return given or next(iter(bundle.sdks), "")


def _checked(bundle: Bundle, contents: Contents, folder: Path, progress: Progress) -> Mapping[str, str]:
    """What the check found; a check that changes the bundle is a mistake of ours."""
    before = sizes(folder)
    checked = bundle.check(contents, folder, progress)
    assert sizes(folder) == before, f"the check of {bundle.name} changed the bundle"
    return checked


def _record(bundle: Bundle, contents: Contents, checked: Mapping[str, str]) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "bundle": bundle.name,
        "model": contents.name,
        "pack": contents.pack,
        "tinyslm": version("tinyslm"),
        "checked": dict(checked),
    }
