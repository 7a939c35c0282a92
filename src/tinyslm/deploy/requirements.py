"""What tinyslm needs, pinned to the versions that are installed here: those with which a bundle was checked."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution

from tinyslm.core.errors import require_extra
from tinyslm.deploy.bundle import Contents
from tinyslm.packs import PACKS

CPU_TORCH = "https://download.pytorch.org/whl/cpu"
"""Where PyTorch's build without CUDA is, which is a tenth as large."""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The version of Python that the pinned versions are for: the one that runs here."""
PYTHON_IMAGE = f"docker.io/library/python:{PYTHON}-slim"
"""The base of images."""

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?([^;]*)(?:;(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_WITH_CUDA = ("nvidia-", "cuda-", "triton")


def is_installed(package: str) -> bool:
    """Whether a package is installed in this environment."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def accept_server(contents: Contents, what: str) -> None:
    """Raise `TinyslmError` if a server with the contents cannot be started. what: the bundle, for the message."""
    if not is_installed("fastapi"):
        raise require_extra("serve", what)
    if contents.pack:
        PACKS[contents.pack].check_page()


def server_extras(contents: Contents) -> list[str]:
    """The extras of tinyslm that a server with the contents needs."""
    return ["serve", *(["packs"] if contents.pack else [])]


def pinned(package: str, *extras: str) -> list[str]:
    """`name==version` of everything that `package` with these extras needs, without itself, by name.

    What is not installed, as it is for another system, is left out; so are the packages of CUDA, which only PyTorch's
    build with CUDA needs.
    """
    versions: dict[str, str] = {}
    todo, seen = [(package, frozenset(extras))], set[tuple[str, frozenset[str]]]()
    while todo:
        item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        name, wanted = item
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        versions[_plain(name)] = found.version.partition("+")[0]
        needed = map(_read, found.requires or ())
        todo += [(other, asked) for other, asked, only_for in needed if only_for is None or only_for in wanted]
    return sorted(
        f"{name}=={version}"
        for name, version in versions.items()
        if name != _plain(package) and not name.startswith(_WITH_CUDA)
    )


def _read(requirement: str) -> tuple[str, frozenset[str], str | None]:
    """The name in a requirement, the extras that it asks for, and the extra for which it is one, if it is for one."""
    parts = _REQUIREMENT.match(requirement)
    assert parts is not None, requirement
    name, extras, _, marker = parts.groups()
    only_for = _EXTRA.search(marker or "")
    return name, frozenset(part.strip() for part in (extras or "").split(",") if part.strip()), only_for and only_for[1]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
