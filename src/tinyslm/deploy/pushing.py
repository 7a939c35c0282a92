"""Publishing on the Hugging Face hub, with its own client: a bundle as a Space, a model folder as a model repository.

Nothing is removed there: files of an earlier push that this one lacks stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.printable import one_line
from tinyslm.data.documents import silent
from tinyslm.deploy.bundle import Progress
from tinyslm.deploy.space.front_matter import check_front_matter
from tinyslm.export.facts import front_matter
from tinyslm.export.model_card import README, model_card
from tinyslm.export.pulling import model_files
from tinyslm.model.folder import find_model, read_model_config
from tinyslm.model.weights import has_weights

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?/[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_NETWORK = "Check the network, then run the command again; what was uploaded before is not sent twice."
_REFUSALS = {
    401: "Log in with a token that may write: hf auth login",
    402: "Static Spaces cost nothing: make one with --sdk static. Others need a paid plan to be created.",
    403: "Use a token that may write there, and a USER that is you or an organization of yours.",
    409: "Give another name, or remove what is there on the hub.",
}


@dataclass(frozen=True)
class Pushed:
    """What was uploaded, or would be (`dry_run`): its files with their sizes in bytes, and where it is.

    kind: "space" or "model". sdk: of a Space. commit: "" if nothing was uploaded.
    """

    repository: str
    kind: str
    sdk: str
    files: Mapping[str, int]
    url: str
    commit: str = ""

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(self.files.values())


def push_bundle(
    folder: str | Path,
    repository: str,
    *,
    private: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Pushed:
    """Upload a Space that `deploy_model` wrote, or a model folder, to `repository` (USER/NAME), which is made if new.

    private: for a new repository. dry_run: only say what would be uploaded; needs neither network nor token.
    A model folder without a `README.md` gets its model card there. Raises `TinyslmError` for a folder that is neither,
    a wrong name, a missing token, and for whatever the hub refuses.
    """
    if not _NAME.fullmatch(repository) or any(twice in repository for twice in ("--", "..")):
        raise TinyslmError(
            f'"{one_line(repository, 100)}" is not the name of a repository on the Hugging Face hub.',
            "Give USER/NAME: letters, digits, dots, dashes and underscores.",
        )
    kind, sdk, contents = _contents(Path(folder))
    sizes = {name: len(one) if isinstance(one, bytes) else one.stat().st_size for name, one in contents.items()}
    address = f"https://huggingface.co/{'spaces/' if kind == 'space' else ''}{repository}"
    planned = Pushed(repository, kind, sdk, sizes, address)
    return planned if dry_run else _upload(planned, contents, private=private, progress=progress)


def _contents(folder: Path) -> tuple[str, str, dict[str, Path | bytes]]:
    """The kind of repository, its sdk, and the files to upload by name. Nothing hidden and no link is uploaded."""
    fields = front_matter(folder)
    if "sdk" in fields:
        check_front_matter(folder)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
        named: dict[str, Path | bytes] = {path.relative_to(folder).as_posix(): path for path in files}
        shown = {name: path for name, path in named.items() if not any(part[0] == "." for part in name.split("/"))}
        return "space", str(fields["sdk"]), shown
    if (folder / "bundle.json").is_file():
        raise TinyslmError(
            f"{folder} is a bundle, but no Space.",
            "Make one: tinyslm deploy MODEL --to space --out FOLDER, for a container with --sdk docker.",
        )
    model = find_model(folder) if folder.is_dir() else folder
    if not has_weights(model):
        raise TinyslmError(
            f"{folder} is neither a Space nor a model folder.", "Make one: tinyslm deploy MODEL --to space --out FOLDER"
        )
    read_model_config(model)
    contents: dict[str, Path | bytes] = {file.name: file for file in model_files(model)}
    readme = model / README
    contents[README] = readme if readme.is_file() else model_card(model).render().encode()
    return "model", "", contents


def _upload(planned: Pushed, contents: Mapping[str, Path | bytes], *, private: bool, progress: Progress) -> Pushed:
    try:
        from huggingface_hub import CommitOperationAdd, HfApi, get_token
        from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    except ImportError:
        raise require_extra("hub", "Uploading to the Hugging Face hub") from None

    if get_token() is None:
        raise TinyslmError(
            "This machine has no token for the Hugging Face hub.",
            "Log in: hf auth login; or set HF_TOKEN to a token that may write (https://huggingface.co/settings/tokens).",
        )
    name, kind = planned.repository, planned.kind
    quiet = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with _telling(name):
            progress("asking the hub", 0, 0)
            hub = HfApi(library_name="tinyslm")
            url = hub.create_repo(
                name, repo_type=kind, exist_ok=True, private=private or None, space_sdk=planned.sdk or None
            )
            operations = [CommitOperationAdd(file, content) for file, content in contents.items()]
            progress("uploading", 0, planned.bytes)
            done = hub.create_commit(name, operations, commit_message="Uploaded by tinyslm deploy", repo_type=kind)
    finally:
        if not quiet:
            enable_progress_bars()
    progress("uploading", planned.bytes, planned.bytes)
    return Pushed(name, kind, planned.sdk, planned.files, str(url), done.oid)


@contextmanager
def _telling(name: str) -> Iterator[None]:
    """Tell in two lines what the hub's client raises."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        said = one_line(error.server_message or str(error), 200)
        remedy = _REFUSALS.get(error.response.status_code, "See what is there: https://huggingface.co/" + name)
        raise TinyslmError(f"The Hugging Face hub refused {name}: {said}", remedy) from None
    except ValueError as error:
        if README not in str(error):
            raise
        raise TinyslmError(
            f"The Hugging Face hub refused {name}: {one_line(str(error), 200)}", "Correct the folder's README.md."
        ) from None
    except (errors.OfflineModeIsEnabled, errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        raise TinyslmError(f"The Hugging Face hub cannot be reached: {one_line(str(error), 200)}", _NETWORK) from None
