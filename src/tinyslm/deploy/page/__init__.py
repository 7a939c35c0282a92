"""The bundle "page": static files on which the model runs in the visitor's browser, as WebAssembly.

The program is llama.cpp, in the form of `@wllama/wllama`. The page works on any server of static files; one that sends
the headers of `checking.HEADERS` gives it more than one thread.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote

from tinyslm.deploy.bundle import Bundle, Contents, Progress


def _accept(contents: Contents) -> None:
    from tinyslm.deploy.page.writing import accept

    accept(contents)


def _write(contents: Contents, folder: Path, progress: Progress) -> None:
    from tinyslm.deploy.page.writing import write

    write(contents, folder, progress)


def _check(contents: Contents, folder: Path, progress: Progress) -> Mapping[str, str]:
    from tinyslm.deploy.page.checking import check

    return check(contents, folder, progress)


def _usage(_contents: Contents, folder: Path) -> str:
    return f"python -m http.server --bind 127.0.0.1 --directory {quote(str(folder))}"


def _limits(contents: Contents) -> Sequence[str]:
    from tinyslm.deploy.page.writing import rounding

    return [f"In the page, its weights have {rounding(contents)}."]


PAGE = Bundle(
    name="page",
    about="a page on which the model runs in the visitor's browser",
    write=_write,
    check=_check,
    usage=_usage,
    accept=_accept,
    limits=_limits,
)
