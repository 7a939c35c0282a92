"""`tinyslm card`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def card(
    model: Path,
    /,
    *,
    title: str = "",
    licence: str = "",
    scores: tuple[Path, ...] = (),
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    json: bool = False,
) -> None:
    """Print the model card: what a model is, what it was made of, and how well it does what.

    It holds what was measured and recorded, with the front matter of the Hugging Face hub, and names what is unknown.

    Parameters
    ----------
    model
        A model folder, or a run folder (its model is used, and what the run recorded).
    title
        Title for people; by default the model's name.
    licence
        The licence that you give the model, as the hub calls it (apache-2.0, mit, cc-by-4.0, ...), if no file says.
    scores
        A file of scores (`tinyslm evaluate --out`); may be given several times. `scores.json` in the run folder is read
        anyway.
    out
        A file to write the card to, such as README.md in the model folder.
    json
        Print the card's front matter and sections as JSON.
    """
    from dataclasses import asdict

    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say, stream
    from tinyslm.core.files import check_file_place, write_atomic
    from tinyslm.export.model_card import model_card

    if out is not None:
        check_file_place(out)
    made = model_card(model, title=title, licence=licence, scores=scores)
    if out is not None:
        write_atomic(out, made.render())
    if json:
        tell(asdict(made) | {"file": out})
    elif out is not None:
        say(f"Model card: {out}")
    else:
        stream(made.render())
