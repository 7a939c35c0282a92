"""`tinyslm deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import Field

from tinyslm.core.config import Section
from tinyslm.core.errors import TinyslmError
from tinyslm.deploy.settings import BundleSettings

if TYPE_CHECKING:
    from tinyslm.deploy.deploying import Deployed
    from tinyslm.deploy.pushing import Pushed


class PushOptions(Section):
    """Publishing on the Hugging Face hub."""

    push: str = Field(
        default="", description="Instead of making a bundle: upload the folder to this repository, USER/NAME."
    )
    dry_run: bool = Field(default=False, description="With --push: only list what would be uploaded.")
    private: bool = Field(default=False, description="With --push: if the repository is new, nobody else sees it.")


def deploy(
    model: Path,
    /,
    *,
    to: str = "",
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    bundle: Annotated[BundleSettings | None, Parameter(name="*")] = None,
    no_check: bool = False,
    publishing: Annotated[PushOptions | None, Parameter(name="*")] = None,
    json: bool = False,
) -> None:
    """Make a folder that is ready to publish from a model, and prove that it works.

    What does not pass the check is not written. With --push: publish such a folder, or a model folder, on the Hugging
    Face hub.

    Parameters
    ----------
    model
        A model folder, or a run folder (its model is used); with --push, the folder to upload.
    to
        The bundle to make: page (the model runs in the visitor's browser), space (a Hugging Face Space), container.
    out
        The folder to write; it must not exist.
    bundle
        What the bundle is asked to be.
    no_check
        Do not start the bundle to check it.
    publishing
        Publishing on the Hugging Face hub.
    json
        Print what was made as JSON.
    """
    publishing = publishing or PushOptions()
    if publishing.push:
        if to or out or bundle or no_check:
            raise TinyslmError("--push uploads a folder as it is.", "Make it first, with --to and --out; then push it.")
        _push(model, publishing, json=json)
        return
    if publishing != PushOptions():
        raise TinyslmError("--dry-run and --private are for --push.", "Add --push USER/NAME, or leave them out.")
    if not to or out is None:
        raise TinyslmError(
            "Both --to and --out are needed, or --push.",
            "Such as: tinyslm deploy MODEL --to space --out my-space; then: tinyslm deploy my-space --push USER/NAME",
        )
    _make(model, to, out, bundle, check=not no_check, json=json)


def _make(model: Path, to: str, out: Path, settings: BundleSettings | None, *, check: bool, json: bool) -> None:
    from dataclasses import asdict

    from tinyslm.cli.pull import pulled
    from tinyslm.cli.telling import tell, working
    from tinyslm.deploy.deploying import deploy_model

    with working(f"Deploying {model}", json=json) as progress:
        made = deploy_model(pulled(model), to, out, settings=settings, check=check, progress=progress)
    if json:
        tell(asdict(made) | {"bytes": made.bytes})
    else:
        _show_bundle(made)


def _show_bundle(made: Deployed) -> None:
    from tinyslm.core.console import say, table
    from tinyslm.core.quantities import duration, size

    if made.checked:
        say("\nChecked:")
        table(list(made.checked.items()))
    else:
        say("\nNot checked.")
    say(f"\n{made.folder}: {len(made.files)} files, {size(made.bytes)}, in {duration(made.seconds)}.")
    say(f"Try it:\n  {made.usage}")


def _push(folder: Path, options: PushOptions, *, json: bool) -> None:
    from dataclasses import asdict

    from tinyslm.cli.telling import tell, working
    from tinyslm.deploy.pushing import push_bundle

    with working(f"Pushing {folder}", json=json or options.dry_run) as progress:
        pushed = push_bundle(folder, options.push, private=options.private, dry_run=options.dry_run, progress=progress)
    if json:
        tell(asdict(pushed) | {"bytes": pushed.bytes})
    else:
        _show_push(pushed)


def _show_push(pushed: Pushed) -> None:
    from tinyslm.core.console import say, table
    from tinyslm.core.quantities import size

    what = f"Space ({pushed.sdk})" if pushed.kind == "space" else "model"
    if pushed.commit:
        say(f"\n{what}: {pushed.url}, {len(pushed.files)} files, {size(pushed.bytes)}; commit {pushed.commit[:12]}.")
        return
    table([(name, size(held)) for name, held in pushed.files.items()], ("file", "size"))
    say(f"\nNothing was uploaded. To the {what} {pushed.url} would go {len(pushed.files)} files, {size(pushed.bytes)}.")
