"""A Gradio Space: a program that serves the model with Gradio, and what it needs.

When the hub installs `requirements.txt`, the other files of the Space are not there yet. So the requirements name
published packages only, and the program unpacks tinyslm's own wheel, which lies next to it, when it starts.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shlex import quote
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.printable import one_line
from tinyslm.deploy.bundle import Contents, Progress
from tinyslm.deploy.requirements import CPU_TORCH, PYTHON, pinned
from tinyslm.deploy.running import KEEP_IT, PATIENCE, environment, free_port, started
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
    launch(HERE / "{folder}", {name!r}, {title!r})
'''


_USE = """async (text) => {
  const until = async (found) => {
    for (;;) {
      const value = found();
      if (value) return value;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  };
  const shown = (kind) => [...document.querySelectorAll(kind)].filter((one) => one.offsetParent !== null);
  const named = (words) => shown("button:not([role=tab])").find((one) => one.textContent.trim() === words);
  const field = await until(() => shown("textarea")[0]);
  const button = await until(() => named("Continue") ?? shown("button.submit-button")[0]);
  const write = button === named("Continue");
  const found = write
    ? () => field.value.startsWith(text) && field.value.slice(text.length)
    : () => document.querySelector("[data-testid=bot]")?.innerText.trim();
  const begun = write ? () => button.disabled : () => document.querySelector("[data-testid=user]");
  for (let tries = 0; ; tries += 1) {
    if (found()) return found();
    if (tries % 50 === 0 && !begun()) {
      Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(field, text);
      field.dispatchEvent(new Event("input", { bubbles: true }));
      button.click();
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}"""
"""Asks the model in the first text field, again until the page hears it, and waits for the beginning of its answer."""


def _gradio() -> str:
    """The version of Gradio. Raises `TinyslmError` if it is not installed."""
    try:
        return version("gradio")
    except PackageNotFoundError:
        raise require_extra("gradio", "A Gradio Space") from None


def _fields(_contents: Contents) -> dict[str, Any]:
    return {
        "sdk_version": _gradio(),
        "python_version": PYTHON,
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
    (folder / APP).write_text(PROGRAM.format(folder=MODEL, name=contents.name, title=contents.title), encoding="utf-8")
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
        command = [str(python), str(folder.resolve() / APP)]
        url = f"http://127.0.0.1:{port}/"
        with started(command, url, variables) as seconds:
            return {
                "environment": "a new one, with its own requirements" if contents.fresh else "that of this tinyslm",
                "start": f"{seconds:.1f} s until the page is served",
                "browser": _used(url, progress),
            }


def _used(url: str, progress: Progress) -> str:
    """Use the page as a visitor would, where there is a browser; raises `TinyslmError` if the model does not answer."""
    from tinyslm.deploy.page.chromium import BrowserError, find_browser, open_page

    program = find_browser()
    if program is None:
        return "not checked: there is no Chromium here"
    progress("using its page in a browser", 0, 0)
    try:
        with open_page(program, url) as page:
            answer = page.run(_USE, PATIENCE, "The sea is")
            others = [one for one in page.requests if not one.startswith((url, "blob:", "data:"))]
            refused = [one for one in page.complaints if "Content Security Policy" in one]
            browser = page.browser
    except BrowserError as error:
        raise TinyslmError(f"The page of the Space does not work: {one_line(str(error), 300)}", KEEP_IT) from None
    if refused:
        raise TinyslmError(f"The page of the Space does what its policy forbids: {one_line(refused[0], 200)}", KEEP_IT)
    if others:
        raise TinyslmError(f"The page of the Space asked another host: {one_line(others[0], 200)}", KEEP_IT)
    return f"{browser}: the model writes {one_line(repr(answer), 40)}; no other host was asked"


def _usage(_contents: Contents, folder: Path) -> str:
    return f"python {quote(str(folder / APP))}    # at http://127.0.0.1:{PORT}"


GRADIO = Sdk("gradio", _fields, _accept, _write, _check, _usage)
