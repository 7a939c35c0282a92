"""A static Space: the bundle "page", in which the model runs in the visitor's browser. It costs nothing to host."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyslm.deploy.bundle import BUNDLES, Contents, Progress
from tinyslm.deploy.space.sdk import Sdk

ISOLATION = {
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "cross-origin",
}
"""Headers with which a browser gives the page several threads; the hub wants their names in lower case."""


def _fields(_contents: Contents) -> dict[str, Any]:
    return {"app_file": "index.html", "fullWidth": True, "custom_headers": dict(ISOLATION)}


def _accept(contents: Contents) -> None:
    BUNDLES["page"].accept(contents)


def _write(contents: Contents, folder: Path, progress: Progress) -> None:
    BUNDLES["page"].write(contents, folder, progress)


def _check(contents: Contents, folder: Path, progress: Progress) -> Mapping[str, str]:
    return BUNDLES["page"].check(contents, folder, progress)


def _usage(contents: Contents, folder: Path) -> str:
    return BUNDLES["page"].usage(contents, folder)


def _limits(contents: Contents) -> Sequence[str]:
    return BUNDLES["page"].limits(contents)


STATIC = Sdk("static", _fields, _accept, _write, _check, _usage, _limits)
