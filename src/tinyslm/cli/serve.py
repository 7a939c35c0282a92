"""`tinyslm serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tinyslm.cli.asking import wanted_dtype
from tinyslm.serving.settings import KEYS_VARIABLE, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyslm.inference.engine import Engine


def serve(
    model: Path | None = None,
    /,
    *,
    more: Annotated[tuple[str, ...], Parameter(name="--model", metavar="NAME=PATH")] = (),
    engine: str = "auto",
    dtype: str = "auto",
    threads: int = 0,
    server: Annotated[ServerSettings | None, Parameter(name="*")] = None,
    make_key: str = "",
) -> None:
    """Serve models through OpenAI's API, with a chat page.

    Shuts down gracefully at Ctrl-C or SIGTERM: answers under way have some time to end.

    Parameters
    ----------
    model
        A model folder, a run folder or a GGUF file (imported first). Clients call it by its last part.
    more
        Another model and its name for clients; may be given several times. Loaded on demand.
    engine
        What computes: native (compiled for this processor), torch; auto: native where possible.
    dtype
        Number format that model folders are computed in: fp32, bf16, or auto: bf16 for models that are stored in it,
        where the hardware has it, else fp32.
    threads
        Threads that compute; 0: all cores, or as many as OMP_NUM_THREADS says.
    server
        The address to listen on, and limits.
    make_key
        Make a key with this name, print it, and exit. With --keys, its hash is appended to that file.
    """
    server = server or ServerSettings()
    if make_key:
        _make_key(make_key, server.keys)
        return
    _serve(_names(model, more), server, (engine, dtype, threads))


def _make_key(name: str, file: Path | None) -> None:
    from tinyslm.core.console import say
    from tinyslm.serving.api_keys import make_key

    key, line = make_key(name, file)
    say(f"The key, which is not shown again: {key}")
    say(f"Its hash was appended to {file}." if file else f"Put this line into the file for --keys: {line}")


def _names(model: Path | None, more: tuple[str, ...]) -> dict[str, Path]:
    """The models by name. Raises `TinyslmError` without a model, and for two with one name."""
    from tinyslm.core.errors import TinyslmError

    named = [] if model is None else [(_name(model), model)]
    for given in more:
        name, found, path = given.partition("=")
        if not (name and found and path):
            raise TinyslmError(f"--model {given} is not a model.", "Give it as NAME=PATH.")
        named.append((name, Path(path)))
    if not named:
        raise TinyslmError("There is no model to serve.", "Give one: tinyslm serve MODEL")
    for name, place in named:
        if [other for other, _ in named].count(name) > 1:
            raise TinyslmError(f'Two models are called "{name}".', "Give them different names: --model NAME=PATH.")
        if not place.exists():
            raise TinyslmError(f"There is no model {place}.", "Check the path.")
    return dict(named)


def _name(path: Path) -> str:
    """The name of a model: the last part of its path, without the `model` of a run folder."""
    whole = path.resolve()
    if whole.is_file():
        return whole.stem
    return whole.parent.name if whole.name == "model" else whole.name


def _serve(models: dict[str, Path], server: ServerSettings, computing: tuple[str, str, int]) -> None:
    import logging
    import os
    import sys

    from tinyslm.core.console import say
    from tinyslm.core.errors import require_extra
    from tinyslm.serving.api_keys import read_keys

    keys = read_keys(server.keys, os.environ.get(KEYS_VARIABLE, ""))
    server.check_reachable(bool(keys))
    try:
        from tinyslm.serving.server import address, listen, run
    except ModuleNotFoundError as error:
        raise require_extra("serve", "Serving a model") from error
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("tinyslm.serving").setLevel(logging.INFO)
    listening = listen(server)

    def started() -> None:
        url = address(listening)
        say(f"Serving {', '.join(models)}: chat at {url}/, programs at {url}/v1")

    with listening:
        run(server, models, _opener(*computing), keys, listening, started)


def _opener(engine: str, dtype: str, threads: int) -> Callable[[Path], Engine]:
    """What opens a model. Raises `TinyslmError` for an unknown number format."""
    from tinyslm.export.gguf.cached import model_folder_of
    from tinyslm.inference.opening import open_engine

    number_format = wanted_dtype(dtype)
    return lambda path: open_engine(model_folder_of(path), engine, dtype=number_format, threads=threads or None)
