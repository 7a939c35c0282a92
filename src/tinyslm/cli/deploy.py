"""`tinyslm deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tinyslm.deploy.settings import BundleSettings


def deploy(
    model: Path,
    /,
    *,
    to: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    bundle: Annotated[BundleSettings | None, Parameter(name="*")] = None,
    no_check: bool = False,
    json: bool = False,
) -> None:
    """Make a folder that is ready to publish from a model, and prove that it works.

    What does not pass the check is not written.

    Parameters
    ----------
    model
        A model folder, or a run folder (its model is used).
    to
        The bundle to make: page (the model runs in the visitor's browser), space (a Hugging Face Space), container.
    out
        The folder to write; it must not exist.
    bundle
        What the bundle is asked to be.
    no_check
        Do not start the bundle to check it.
    json
        Print what was made as JSON.
    """
    from dataclasses import asdict

    from tinyslm.cli.pull import pulled
    from tinyslm.cli.telling import tell, working
    from tinyslm.core.console import say, table
    from tinyslm.core.quantities import duration, size
    from tinyslm.deploy.deploying import deploy_model

    with working(f"Deploying {model}", json=json) as progress:
        made = deploy_model(pulled(model), to, out, settings=bundle, check=not no_check, progress=progress)
    if json:
        tell(asdict(made) | {"bytes": made.bytes})
        return
    if made.checked:
        say("\nChecked:")
        table(list(made.checked.items()))
    else:
        say("\nNot checked.")
    say(f"\n{out}: {len(made.files)} files, {size(made.bytes)}, in {duration(made.seconds)}.")
    say(f"Try it:\n  {made.usage}")
