"""`tinyslm look`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tinyslm.cli.asking import Text


def look(
    model: Path,
    /,
    *,
    text: Annotated[str, Text, Parameter(name=["--text", "-t"])],
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    layer: int | None = None,
    json: bool = False,
) -> None:
    """Write a page that shows how a model reads a text: the probability of each token, its kind, and attention.

    The page is one file that needs no server and fetches nothing. It is not written over another file.

    Parameters
    ----------
    model
        A model folder, or a run folder (its model is used).
    text
        The text to look at, at most 512 tokens; `@FILE` reads it from a file.
    out
        The HTML file to write.
    layer
        Show each head of this layer (from 1 on); without it, the mean of the heads of every layer.
    json
        Print where the page is, of how many tokens, and the loss by kind of token, as JSON.
    """
    from dataclasses import asdict

    from tinyslm.cli.asking import model_folder
    from tinyslm.cli.pull import pulled
    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say
    from tinyslm.core.errors import TinyslmError
    from tinyslm.core.files import write_atomic
    from tinyslm.inspection.inspecting import check_head, inspect
    from tinyslm.inspection.page import inspection_page
    from tinyslm.inspection.token_kinds import loss_by_kind
    from tinyslm.model.folder import find_model, load_model, load_tokenizer

    if out.exists():
        raise TinyslmError(f"{out} exists already.", "Give another name: nothing is written over.")
    with model_folder(pulled(model)) as place:
        folder = find_model(place)
        decoder, tokenizer = load_model(folder), load_tokenizer(folder)
        if layer is not None:
            check_head(layer, None, decoder.config.depth, decoder.config.heads)
        ids = [*tokenizer.start_ids, *tokenizer.encode(text)]
        found = inspect(decoder, tokenizer, ids)
        write_atomic(out, inspection_page(found, model.name, layer))
    if json:
        tell({"page": out, "tokens": len(ids), "loss_by_kind": list(map(asdict, loss_by_kind(found.tokens)))})
    else:
        say(f"Written: {out}")
