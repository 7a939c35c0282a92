"""A Gradio Space: a program that serves the model with Gradio, and what it needs.

When the hub installs `requirements.txt`, the other files of the Space are not there yet. So the requirements name
published packages only, and the program unpacks tinyslm's own wheel, which lies next to it, when it starts.
"""

import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.deploy.bundle import Contents, Progress
from tinyslm.deploy.requirements import CPU_TORCH, pinned
from tinyslm.deploy.running import environment, free_port, started
from tinyslm.deploy.space.sdk import PORT, Sdk

APP = "app.py"
MODEL = "model"
PROGRAM = '''"""Serves the model in this folder with Gradio. Written by tinyslm deploy."""

import os
import sys
from pathlib import Path
from tempfile import mkdtemp
from zipfile import ZipFile

HERE = Path(__file__).resolve().parent

place = mkdtemp(prefix="tinyslm-")
with ZipFile(next(HERE.glob("tinyslm-*.whl"))) as wheel:
    wheel.extractall(place)
sys.path.insert(0, place)
os.environ["PYTHONPATH"] = place  # for the processes that it starts

from tinyslm.serving.gradio_app import launch  # noqa: E402

if __name__ == "__main__":
    launch(HERE / "{folder}", {name!r})
'''


def _gradio() -> str:
    """The version of Gradio. Raises `TinyslmError` if it is not installed."""
    try:
        return version("gradio")
    except PackageNotFoundError:
        raise require_extra("gradio", "A Gradio Space") from None


def _fields(_contents: Contents) -> dict[str, Any]:
    return {
        "sdk_version": _gradio(),
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "app_file": APP,
    }


def _accept(contents: Contents) -> None:
    _gradio()
    if contents.pack:
        raise TinyslmError(
            f"A Gradio Space has no page of the pack {contents.pack}.", "Use --sdk static or --sdk docker."
        )


def _write(contents: Contents, folder: Path, progress: Progress) -> None:
    from tinyslm.deploy.wheel import build_wheel
    from tinyslm.export.pulling import copy_model

    (folder / MODEL).mkdir()
    copy_model(contents.model, folder / MODEL, progress)
    build_wheel(folder)
    (folder / APP).write_text(PROGRAM.format(folder=MODEL, name=contents.name), encoding="utf-8")
    needed = {*pinned("tinyslm", "serve"), *pinned("gradio"), f"gradio=={_gradio()}"}
    lines = [f"--extra-index-url {CPU_TORCH}", *sorted(needed)]
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "packages.txt").write_text("g++\n", encoding="utf-8")  # compiles the kernels at the first start


def _check(contents: Contents, folder: Path, progress: Progress) -> Mapping[str, str]:
    """Start the program as the hub does, here or, if asked for, in a new environment with only its requirements."""
    with environment(folder, fresh=contents.fresh, progress=progress) as python:
        port = free_port()
        variables = {
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_SERVER_PORT": f"{port}",
            "GRADIO_ANALYTICS_ENABLED": "False",
        }
        progress("starting the Space", 0, 0)
        command = [str(python), str(folder / APP)]
        url = f"http://127.0.0.1:{port}/"
        with started(command, url, variables) as seconds:
            return {
                "environment": "a new one, with its own requirements" if contents.fresh else "that of this tinyslm",
                "start": f"{seconds:.1f} s until the page is served",
            }


def _usage(_contents: Contents, folder: Path) -> str:
    return f"python {folder / APP}    # at http://127.0.0.1:{PORT}"


GRADIO = Sdk("gradio", _fields, _accept, _write, _check, _usage)
