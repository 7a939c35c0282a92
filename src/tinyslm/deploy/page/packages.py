"""The programs that the page runs: published files of npm packages, of a pinned version and checksum.

They are fetched from the registry that npm is set to (one HTTPS request each, without npm), and kept in the user's
cache folder. tinyslm itself contains none of them.
"""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_atomic
from tinyslm.core.npm import Package
from tinyslm.hardware.compiling import private, user_cache

REGISTRY = "https://registry.npmjs.org/"
"""npm's own default, where neither the environment nor npm says otherwise."""
SECONDS = 60
LARGEST = 64 * 2**20
"""Bytes of a package, and of its files together with it: none that is used comes near."""


WLLAMA = Package(
    name="@wllama/wllama",
    version="2.3.7",
    integrity="sha512-T273gBEqEZCHAoyNZDg+X6boQWktaq+efNF6bJo5aHToJr7jS1kCYImKXDdBi2/CccRuBUcMBHHLHiQN4+OfKQ==",
    licence="MIT; contains llama.cpp b7179 (MIT, The ggml authors)",
    files={
        "esm/index.min.js": "wllama.js",
        "esm/single-thread/wllama.wasm": "single.wasm",
        "esm/multi-thread/wllama.wasm": "threads.wasm",
        "LICENCE": "wllama.LICENCE",
    },
)
"""The last version in 32-bit WebAssembly, which runs in all browsers; later ones also are larger, and slower here."""

JINJA = Package(
    name="@huggingface/jinja",
    version="0.5.11",
    integrity="sha512-YzEzwM5oQf4r0vs7ifWQ+yuVR1YkAHrjERQ+a8WRsStHHp4NRBg+NesjiFc+X2AFUpRvvrIeHDS1xFy9jY/IjQ==",
    licence="MIT",
    files={"dist/index.js": "jinja.js", "LICENSE": "jinja.LICENSE"},
)


def obtain(package: Package, given: Sequence[Path] = ()) -> dict[str, bytes]:
    """The files that the page takes, by their names in the page.

    given: archives on this machine, which are recognized by their content. Raises `TinyslmError` where the package is
    neither among them nor in the cache, and cannot be fetched, and for one that is not what it should be.
    """
    return _unpacked(package, _given(package, given) or _cached(package) or _fetched(package))


def check_given(packages: Sequence[Package], given: Sequence[Path]) -> None:
    """Raise `TinyslmError` for a file that is none of the packages."""
    for path in given:
        content = _read(path)
        if not any(package.is_in(content) for package in packages):
            wanted = " ".join(f"{package.name}@{package.version}" for package in packages)
            raise TinyslmError(f"{path} is none of the packages that the page needs.", f"Give them: npm pack {wanted}")


def _given(package: Package, given: Sequence[Path]) -> bytes | None:
    return next((content for path in given if package.is_in(content := _read(path))), None)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise TinyslmError(f"{path} is too large for a package.", "Give the archive that `npm pack` writes.")
        return path.read_bytes()
    except OSError as error:
        raise TinyslmError(f"{path} cannot be read: {error.strerror}.", "Give a file that `npm pack` wrote.") from None


def _cache() -> Path:
    return private(user_cache() / "npm")


def _cached(package: Package) -> bytes | None:
    file = _cache() / package.archive
    if not file.is_file():
        return None
    content = file.read_bytes()
    return content if package.is_in(content) else None  # damaged: it is fetched again


def _fetched(package: Package) -> bytes:
    url = f"{registry()}{package.name}/-/{package.name.rpartition('/')[2]}-{package.version}.tgz"
    name, host = f"{package.name} {package.version}", urlsplit(url).netloc
    otherwise = f"or give the file, fetched elsewhere, with --runtime: npm pack {package.name}@{package.version}"
    try:
        with urlopen(url, timeout=SECONDS) as response:  # noqa: S310  (`registry` gives web addresses only)
            content: bytes = response.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(error, HTTPError):
            error.close()
        raise TinyslmError(
            f"{name}, which the page needs, cannot be fetched from {host}: {reason}.", f"Check the network, {otherwise}"
        ) from None
    if not package.is_in(content):
        raise TinyslmError(
            f"What {host} sent is not {name}: its SHA-512 differs.",
            f"Check the setting `npm config get registry`, {otherwise}",
        )
    write_atomic(_cache() / package.archive, content)
    return content


def registry() -> str:
    """The address of the registry that npm would ask, with a slash at the end."""
    settings = {name.lower(): value for name, value in os.environ.items()}
    found = (settings.get("npm_config_registry") or _npm_setting()).strip() or REGISTRY
    if urlsplit(found).scheme not in ("https", "http") or not urlsplit(found).netloc:
        problem = f"npm's registry is set to {found!r}, which is no web address."
        raise TinyslmError(problem, "Correct `npm config get registry`.")
    return found.rstrip("/") + "/"


def _npm_setting() -> str:
    """What npm says, if it is installed."""
    npm = shutil.which("npm")
    if npm is None:
        return ""
    try:
        command = [npm, "config", "get", "registry"]
        return subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _unpacked(package: Package, content: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=BytesIO(content), mode="r:gz") as archive:
        for member in archive:
            name = package.files.get(member.name.partition("/")[2])
            if name is not None and member.isreg() and member.size <= LARGEST:
                file = archive.extractfile(member)
                assert file is not None
                found[name] = file.read()
    assert set(found) == set(package.files.values()), f"{package.archive} has other files"
    return found


def notice(packages: Sequence[Package]) -> str:
    """A text that names the packages and their licences."""
    lines = [f"{package.name} {package.version}: {package.licence}" for package in packages]
    return "\n".join(["Programs in this folder, as published on npm:", "", *lines, ""])
