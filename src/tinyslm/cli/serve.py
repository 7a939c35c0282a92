"""`tinyslm serve`."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import Field

from tinyslm.cli.asking import ComputingOptions, wanted_dtype
from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.serving.settings import KEYS_VARIABLE, ModelList, ServerSettings, read_model_list

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tinyslm.inference.engine import Engine
    from tinyslm.serving.api_keys import ApiKeys
    from tinyslm.serving.models import Models, Source
    from tinyslm.serving.page import Page


class ServerComputing(ComputingOptions):
    """What computes in a server."""

    threads: int = Field(
        default=0, description="Threads that compute; 0: all cores, or as many as OMP_NUM_THREADS says."
    )


def serve(
    model: Path | None = None,
    /,
    *,
    more: Annotated[tuple[str, ...], Parameter(name="--model", metavar="NAME=PATH")] = (),
    adapters: Annotated[tuple[str, ...], Parameter(name="--adapter", metavar="NAME=PATH")] = (),
    computing: Annotated[ServerComputing | None, Parameter(name="*")] = None,
    server: Annotated[ServerSettings | None, Parameter(name="*")] = None,
    make_key: str = "",
    yes: bool = False,
) -> None:
    """Serve models through OpenAI's API, with a chat page.

    Shuts down gracefully at Ctrl-C or SIGTERM: answers under way have some time to end. SIGHUP reloads keys and models.

    Parameters
    ----------
    model
        A model folder, a run folder or a GGUF file (imported first). Clients call it by its last part.
    more
        Another model and its name for clients; may be given several times. Loaded on demand.
    adapters
        An adapter of the first model and its name for clients: its folder, or the run folder of the fine-tuning that
        trained it; may be given several times. On demand, it is merged into a copy of the weights, which takes as much
        memory as another model.
    computing
        What computes.
    server
        The address to listen on, and limits.
    make_key
        Make a key with this name, print it, and exit. With --keys, its hash is appended to that file.
    yes
        Pull MODEL without asking if it is a name in `tinyslm pull --list` and not here.
    """
    server = server or ServerSettings()
    if make_key:
        _make_key(make_key, server.keys)
        return
    from tinyslm.cli.pull import pulled

    chosen, listed = model if model is None else pulled(model, yes=yes), server.models
    _serve(lambda: _sources(chosen, more, adapters, listed), server, computing or ServerComputing())


def _make_key(name: str, file: Path | None) -> None:
    from tinyslm.core.console import say
    from tinyslm.serving.api_keys import make_key

    key, line = make_key(name, file)
    say(f"The key, which is not shown again: {key}")
    say(f"Its hash was appended to {file}." if file else f"Put this line into the file for --keys: {line}")


def _sources(
    model: Path | None, more: tuple[str, ...], adapters: tuple[str, ...], listed: Path | None = None
) -> dict[str, Source]:
    """The models and adapters by name, with those in the file `listed`.

    Raises `TinyslmError` without a model, for an adapter that does not exist, and for two with one name.
    """
    from tinyslm.model.adapted import AdaptedModel, find_adapter

    named: list[tuple[str, Source]] = [] if model is None else [(_name(model), model)]
    named += [_named(given, "model") for given in more]
    further = read_model_list(listed) if listed else ModelList()
    named += further.models.items()
    if not named:
        raise TinyslmError("No model was given.", "Give one: tinyslm serve MODEL")
    for place in (place for _, place in named if isinstance(place, Path)):
        if not place.exists():
            raise TinyslmError(f"{place} does not exist.", "Check the path.")
    base = named[0][1]
    assert isinstance(base, Path)
    for name, path in (*(_named(given, "adapter") for given in adapters), *further.adapters.items()):
        named.append((name, AdaptedModel(base, find_adapter(path))))
    names = [name for name, _ in named]
    if twice := [name for name in names if names.count(name) > 1]:
        raise TinyslmError(f'Two models are called "{twice[0]}".', "Give them different names: --model NAME=PATH.")
    return dict(named)


def _named(given: str, option: str) -> tuple[str, Path]:
    """The name and the path in `NAME=PATH`."""
    name, found, path = given.partition("=")
    if not (name and found and path):
        raise TinyslmError(f"--{option} {given} is not a named {option}.", "Give it as NAME=PATH.")
    return name, Path(path)


def _name(path: Path) -> str:
    """The name of a model: the last part of its path as it was given, without the `model` of a run folder."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100  (`resolve` would follow a symbolic link)
    if whole.is_file():
        return whole.stem
    return whole.parent.name if whole.name == "model" else whole.name


def _serve(sources: Callable[[], dict[str, Source]], server: ServerSettings, computing: ServerComputing) -> None:
    from tinyslm.core.console import say
    from tinyslm.core.quantities import size
    from tinyslm.serving.api_keys import read_keys

    try:
        from tinyslm.serving.request_log import json_line, set_up_log
        from tinyslm.serving.server import Configuration, run
    except ModuleNotFoundError as error:
        raise require_extra("serve", "Serving a model") from error
    set_up_log(as_json=server.log_json)
    pages = _pages(server.pack)

    def keys() -> ApiKeys:
        found = read_keys(server.keys, os.environ.get(KEYS_VARIABLE, ""))
        server.check_reachable(bool(found))
        return found

    def tell(line: str) -> None:
        with suppress(OSError):  # a full disk, or a reader that has ended, must not stop the server
            say(json_line(line) if server.log_json else line)

    def started(models: Models, url: str) -> None:
        tell(f"Serving {', '.join(models.names)}: chat at {url}/, programs at {url}/v1")
        if server.gradio:
            tell(f"The interface made with Gradio: {url}/gradio")
        for page in pages:
            tell(f"The page of the pack {page.name}: {url}{page.path}")
        if any(models.base(name) for name in models.names):
            base = models.names[0]
            tell(f"Each adapter in use takes as much memory as {base}: {size(models.memory(base))}.")

    run(server, Configuration(sources, keys, pages), _opener(computing), started)


def _pages(names: Sequence[str]) -> list[Page]:
    """The pages of packs. Raises `TinyslmError` for unknown packs, and for those without a page."""
    if not names:
        return []
    from tinyslm.core.plugins import load_plugins
    from tinyslm.packs import PACKS

    load_plugins()
    packs = [PACKS[name] for name in names]
    for pack in packs:
        pack.check_page()
    return [pack.page() for pack in packs if pack.page]


def _opener(computing: ServerComputing) -> Callable[[Source], Engine]:
    """What opens a model. Raises `TinyslmError` for an unknown number format."""
    from dataclasses import replace

    from tinyslm.export.gguf_cache import model_folder_of
    from tinyslm.inference.opening import open_engine
    from tinyslm.model.adapted import AdaptedModel

    number_format = wanted_dtype(computing.dtype)

    def open_source(source: Source) -> Engine:
        if isinstance(source, AdaptedModel):
            source = replace(source, base=model_folder_of(source.base))
        else:
            source = model_folder_of(source)
        return open_engine(source, computing.engine, dtype=number_format, threads=computing.threads or None)

    return open_source
