"""The bundle "space": a Hugging Face Space. What runs it is one of three values: a static page, Gradio, or Docker."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from tinyslm.deploy.bundle import Bundle, Contents, Progress
from tinyslm.deploy.space.docker_sdk import DOCKER
from tinyslm.deploy.space.front_matter import check_front_matter, front_matter
from tinyslm.deploy.space.gradio_sdk import GRADIO
from tinyslm.deploy.space.sdk import Sdk
from tinyslm.deploy.space.static_sdk import STATIC

SDKS: dict[str, Sdk] = {sdk.name: sdk for sdk in (STATIC, GRADIO, DOCKER)}


def _metadata(contents: Contents, card: Mapping[str, Any]) -> dict[str, Any]:
    return front_matter(contents, card, SDKS[contents.sdk].fields(contents))


def _accept(contents: Contents) -> None:
    SDKS[contents.sdk].accept(contents)


def _write(contents: Contents, folder: Path, progress: Progress) -> None:
    SDKS[contents.sdk].write(contents, folder, progress)


def _check(contents: Contents, folder: Path, progress: Progress) -> dict[str, str]:
    return {
        "front matter": check_front_matter(folder),
        **SDKS[contents.sdk].check(contents, folder, progress),
    }


def _limits(contents: Contents) -> Sequence[str]:
    return SDKS[contents.sdk].limits(contents)


def _usage(contents: Contents, folder: Path) -> str:
    push = f"tinyslm deploy {quote(str(folder))} --push USER/NAME"
    return f"{SDKS[contents.sdk].usage(contents, folder)}\nPublish it:\n  {push}"


SPACE = Bundle(
    name="space",
    about="a Hugging Face Space: --sdk static (the default), gradio or docker",
    write=_write,
    check=_check,
    usage=_usage,
    accept=_accept,
    metadata=_metadata,
    limits=_limits,
    sdks=tuple(SDKS),
)
