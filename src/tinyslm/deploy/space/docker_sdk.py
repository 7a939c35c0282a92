"""A Docker Space: tinyslm's own server and page, in a container as the hub runs it, as user 1000."""

import json
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

from tinyslm.core.errors import TinyslmError
from tinyslm.deploy.bundle import Contents, Progress
from tinyslm.deploy.requirements import CPU_TORCH, PYTHON_IMAGE, accept_server, pinned, server_extras
from tinyslm.deploy.running import (
    answered,
    container_program,
    environment,
    free_port,
    image_name,
    in_container,
    started,
)
from tinyslm.deploy.space.sdk import PORT, Sdk

MODEL = "model"
DOCKERFILE = """\
# A server with a page for the model in this folder, as a Hugging Face Space. Written by tinyslm deploy.
FROM {base}

# Compiles the kernels for the processor of the Space, when it starts.
RUN apt-get update \\
 && apt-get install --yes --no-install-recommends g++ \\
 && rm -rf /var/lib/apt/lists/*

# The hub runs containers as user 1000.
RUN useradd --create-home --uid 1000 user
USER user
ENV HOME=/home/user PATH=/home/user/.local/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /home/user/app

COPY --chown=user requirements.txt ./
RUN pip install --user --no-cache-dir -r requirements.txt
COPY --chown=user {wheel} ./
RUN pip install --user --no-cache-dir --no-deps ./{wheel}
COPY --chown=user {model} {model}

EXPOSE {port}
CMD {command}
"""


def _command(contents: Contents) -> list[str]:
    """The arguments of `tinyslm`, without the address."""
    page = ["--pack", contents.pack] if contents.pack else []
    return ["serve", "--model", f"{contents.name}={MODEL}", "--public", *page]


def _fields(contents: Contents) -> dict[str, Any]:
    return {"app_port": PORT, **({"base_path": f"/{contents.pack}"} if contents.pack else {})}


def _accept(contents: Contents) -> None:
    accept_server(contents, "A Docker Space")


def _write(contents: Contents, folder: Path, progress: Progress) -> None:
    from tinyslm.deploy.wheel import build_wheel
    from tinyslm.export.pulling import copy_model

    (folder / MODEL).mkdir()
    copy_model(contents.model, folder / MODEL, progress)
    wheel = build_wheel(folder)
    lines = [f"--extra-index-url {CPU_TORCH}", *pinned("tinyslm", *server_extras(contents))]
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    address = ["--host", "0.0.0.0", "--port", f"{PORT}"]  # noqa: S104 - in the container, for the hub's proxy
    text = DOCKERFILE.format(
        base=PYTHON_IMAGE,
        wheel=wheel.name,
        model=MODEL,
        port=PORT,
        command=json.dumps(["tinyslm", *_command(contents), *address]),
    )
    (folder / "Dockerfile").write_text(text, encoding="utf-8")


def _check(contents: Contents, folder: Path, progress: Progress) -> Mapping[str, str]:
    """Run the container as the hub does if that is asked for; otherwise its command, with the bundle's wheel."""
    program = container_program() if contents.fresh else None
    if program is not None:
        with in_container(program, folder, PORT, progress) as (url, found):
            return {"container": f"{found}, as user 1000 on port {PORT}", **_used(contents, url)}
    with environment(folder, fresh=contents.fresh, progress=progress) as python, TemporaryDirectory() as place:
        with ZipFile(next(folder.glob("*.whl"))) as wheel:
            wheel.extractall(place)
        port = free_port()
        command = [str(python), "-m", "tinyslm", *_command(contents), "--host", "127.0.0.1", "--port", f"{port}"]
        command = [part.replace(f"={MODEL}", f"={folder.resolve() / MODEL}") for part in command]
        progress("starting the Space", 0, 0)
        url = f"http://127.0.0.1:{port}"
        with started(command, f"{url}/ready", {"PYTHONPATH": place}) as seconds:
            where = "a new environment with its requirements" if contents.fresh else "this environment"
            return {
                "container": f"not built; its command ran in {where}, with its wheel",
                "start": f"{seconds:.1f} s until it answers",
                **_used(contents, url),
            }


def _used(contents: Contents, url: str) -> dict[str, str]:
    """What a visitor, and a program, get. Raises `TinyslmError` if it is not what they should."""
    page, headers = answered(f"{url}/{contents.pack}")
    if b"<html" not in page or "X-Frame-Options" in headers:
        raise TinyslmError("The bundle does not work: the hub cannot show its page.", "Report this as a mistake.")
    asked = {"model": contents.name, "prompt": "The ", "max_tokens": 8, "temperature": 0}
    answer, _ = answered(f"{url}/v1/completions", json.dumps(asked).encode())
    count = json.loads(answer)["usage"]["completion_tokens"]
    return {
        "page": "served, without a key, and other sites may show it",
        "API": f"{contents.name} answers, with {count} tokens",
    }


def _usage(contents: Contents, folder: Path) -> str:
    name, port = image_name(contents), f"127.0.0.1:{PORT}:{PORT}"
    return f"docker build --tag {name} {quote(str(folder))} && docker run --rm --publish {port} {name}"


DOCKER = Sdk("docker", _fields, _accept, _write, _check, _usage)
