"""The bundle "container": an image with the server and the model, without a compiler, for any host of containers.

Everything is compiled in the first stage, the kernels for several kinds of processors (`hardware/prebuilt.py`); the
server chooses when it starts. The image runs as user 1000, and its file system may be read-only.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from tinyslm.core.errors import TinyslmError
from tinyslm.core.quantities import size
from tinyslm.deploy.bundle import Bundle, Contents, Progress
from tinyslm.deploy.requirements import CPU_TORCH, PYTHON_IMAGE, accept_server, pinned, server_extras
from tinyslm.deploy.running import answered, container_program, environment, free_port, image_name, output_of, started

MODEL = "model"
WHEELS = "wheels"
PORT = 8000
UNNEEDED = (
    "torch/include torch/share torch/test torch/lib/*_test.so torch/bin/protoc* torch/bin/*_test torch/bin/test_* "
    "vl_convert pip* setuptools* _distutils_hack distutils-precedence.pth"
)
"""What serving never uses, below site-packages: PyTorch's headers and tests, plots, installers."""

DOCKERFILE = """\
# The server of tinyslm with the model in this folder. Written by tinyslm deploy.
#
#   docker build --tag {name} .
#   docker run --rm --read-only --cap-drop ALL --publish 127.0.0.1:{port}:{port} --env TINYSLM_KEYS {name}
#
# It needs keys, from the variable TINYSLM_KEYS or from a file (--volume FILE:/run/keys:ro, and --keys /run/keys after
# the image's name), or --public there if everybody may use it. `tinyslm serve --make-key NAME` makes keys.
FROM {base} AS build
RUN apt-get update \\
 && apt-get install --yes --no-install-recommends g++
WORKDIR /build
RUN python3 -m venv /opt/tinyslm
COPY requirements.txt ./
COPY {wheels} {wheels}
# Wheels in {wheels}/ are preferred to downloaded ones: with all of them there, the build needs no package index.
RUN /opt/tinyslm/bin/pip install --no-cache-dir --find-links {wheels} -r requirements.txt \\
 && /opt/tinyslm/bin/pip install --no-cache-dir --no-deps {wheels}/tinyslm-*.whl
# Compiled for {kinds}; the server chooses when it starts.
RUN /opt/tinyslm/bin/tinyslm doctor --compile --portable
RUN cd /opt/tinyslm/lib/python3*/site-packages && rm -rf {unneeded}

FROM {base}
COPY --from=build /opt/tinyslm /opt/tinyslm
COPY {model} /opt/{model}
ENV PATH=/opt/tinyslm/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
WORKDIR /opt
EXPOSE {port}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD {health}
ENTRYPOINT {command}
"""

HEALTH = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{PORT}/ready', timeout=4)"


def _command(contents: Contents) -> list[str]:
    """The arguments of `tinyslm`, without the address."""
    page = ["--pack", contents.pack] if contents.pack else []
    return ["serve", "--model", f"{contents.name}={MODEL}", *page]


def _accept(contents: Contents) -> None:
    accept_server(contents, "A container")


def _write(contents: Contents, folder: Path, progress: Progress) -> None:
    from tinyslm.deploy.wheel import build_wheel
    from tinyslm.export.pulling import copy_model
    from tinyslm.hardware.prebuilt import KINDS

    for name in (MODEL, WHEELS):
        (folder / name).mkdir()
    copy_model(contents.model, folder / MODEL, progress)
    build_wheel(folder / WHEELS)
    lines = [f"--extra-index-url {CPU_TORCH}", *pinned("tinyslm", *server_extras(contents))]
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    text = DOCKERFILE.format(
        base=PYTHON_IMAGE,
        name=image_name(contents),
        port=PORT,
        wheels=WHEELS,
        model=MODEL,
        kinds=", ".join(kind.name for kind in KINDS),
        unneeded=UNNEEDED,
        health=json.dumps(["python3", "-c", HEALTH]),
        command=json.dumps(["tinyslm", *_command(contents), "--host", "0.0.0.0", "--port", f"{PORT}"]),  # noqa: S104
    )
    (folder / "Dockerfile").write_text(text, encoding="utf-8")


def _check(contents: Contents, folder: Path, progress: Progress) -> Mapping[str, str]:
    """Build the image and run it, if that is asked for and can be done; otherwise its command, with its wheel."""
    from tinyslm.serving.api_keys import make_key

    key, line = make_key("check")
    program = container_program() if contents.fresh else None
    if program is not None:
        with _in_container(program, folder, line, progress) as (url, found):
            found |= {"answer": _used(contents, url, key)}
        return found
    with environment(folder, fresh=contents.fresh, progress=progress) as python, TemporaryDirectory() as place:
        with ZipFile(next((folder / WHEELS).glob("tinyslm-*.whl"))) as wheel:
            wheel.extractall(place)
        port = free_port()
        command = [part.replace(f"={MODEL}", f"={folder.resolve() / MODEL}") for part in _command(contents)]
        progress("starting the server", 0, 0)
        url = f"http://127.0.0.1:{port}"
        variables = {"PYTHONPATH": place, "TINYSLM_KEYS": line}
        with started([str(python), "-m", "tinyslm", *command, "--port", f"{port}"], f"{url}/ready", variables) as taken:
            answer = _used(contents, url, key)
    reason = "no Docker or Podman that works was found" if contents.fresh else "--fresh builds it"
    return {
        "image": f"not built: {reason}. Its command ran here, with its wheel",
        "start": f"{taken:.1f} s until it answers",
        "answer": answer,
    }


@contextmanager
def _in_container(program: str, folder: Path, keys: str, progress: Progress) -> Iterator[tuple[str, dict[str, str]]]:
    """Build the image and run it until the block ends, with a read-only file system and no capabilities.

    Gives its address on this machine, and what was found, to which the end adds. Raises `TinyslmError` if it cannot be
    built, does not answer, or does not stop at SIGTERM.
    """
    name, port, begun = f"tinyslm-check-{os.getpid()}", free_port(), time.monotonic()
    progress("building the image", 0, 0)
    output_of([program, "build", "--tag", name, str(folder)], "The image of the bundle could not be built")
    held = output_of([program, "image", "inspect", "--format", "{{.Size}}", name], "The image cannot be inspected")
    found = {"image": f"{size(int(held))}, built in {time.monotonic() - begun:.0f} s by {Path(program).name}"}
    progress("starting the container", 0, 0)
    confined = ["--read-only", "--cap-drop", "ALL", "--env", f"TINYSLM_KEYS={keys}"]
    command = [program, "run", "--name", name, *confined, "--publish", f"127.0.0.1:{port}:{PORT}", name]
    url = f"http://127.0.0.1:{port}"
    try:
        with started(command, f"{url}/ready", {}) as seconds:
            found["start"] = f"{seconds:.1f} s until it answers, as user 1000, with a read-only file system"
            yield url, found
            begun = time.monotonic()
            output_of([program, "stop", "-t", "60", name], "The container cannot be stopped")
            taken = time.monotonic() - begun
        code = output_of(
            [program, "inspect", "--format", "{{.State.ExitCode}}", name], "The container cannot be inspected"
        )
        if code != "0":
            raise TinyslmError(
                f"The bundle does not work: its server ended with code {code} after SIGTERM, instead of 0.",
                "Report this as a mistake.",
            )
        found["stop"] = f"{taken:.1f} s after SIGTERM, gracefully"
    finally:
        for removal in (["rm", "--force", name], ["rmi", "--force", name]):
            subprocess.run([program, *removal], capture_output=True, check=False)  # noqa: S603 - the container program


def _used(contents: Contents, url: str, key: str) -> str:
    """What a program with a key gets. Raises `TinyslmError` if it is not what it should."""
    asked = {"model": contents.name, "prompt": "The ", "max_tokens": 8, "temperature": 0}
    answer, _ = answered(f"{url}/v1/completions", json.dumps(asked).encode(), key)
    return f"{json.loads(answer)['usage']['completion_tokens']} tokens as {contents.name}, to a client with a key"


def _usage(contents: Contents, folder: Path) -> str:
    name = image_name(contents)
    return (
        f"docker build --tag {name} {quote(str(folder))}\n"
        f"  docker run --rm --read-only --cap-drop ALL --publish 127.0.0.1:{PORT}:{PORT} {name} --public"
    )


CONTAINER = Bundle(
    name="container",
    about="an image for Docker, Podman or Kubernetes: the server and the model, without a compiler",
    write=_write,
    check=_check,
    usage=_usage,
    accept=_accept,
)
