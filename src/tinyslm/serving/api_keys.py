"""API keys, stored as hashes.

A key is 256 random bits, so its plain SHA-256 reveals nothing. A file has one key per line: a name, a space, and
`sha256:` with the hash in hex; the environment variable has the same, separated by commas or lines.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import disk_error
from tinyslm.core.text_files import read_small_text

KEYS_OPTION = "--keys"
_LINE = re.compile(r"(?P<name>[\w.@-]{1,64})\s+sha256:(?P<hash>[0-9a-fA-F]{64})")


class ApiKeys:
    """Names of keys by the hashes of these. Without any, the server needs no key."""

    def __init__(self, names: Mapping[bytes, str]) -> None:
        self._names = dict(names)

    def __bool__(self) -> bool:
        return bool(self._names)

    def name(self, key: str) -> str | None:
        """The name of a key; `None` for a wrong one. Takes equally long for every wrong key."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        matches = [name for known, name in self._names.items() if hmac.compare_digest(known, digest)]
        return matches[0] if matches else None


def read_keys(file: Path | None, variable: str = "") -> ApiKeys:
    """The keys of a file, and those in the value of the environment variable.

    Raises `TinyslmError` for a file that cannot be read and for an invalid line; logs a warning for a file that other
    users can read or change.
    """
    names = dict(_parsed(variable.replace(",", "\n"), "the environment variable"))
    if file is not None:
        names |= _parsed(read_small_text(file, KEYS_OPTION), str(file))
        _warn_if_open(file)
    return ApiKeys(names)


def make_key(name: str, file: Path | None = None) -> tuple[str, str]:
    """A new key and its line, which is appended to `file` if given; a new file is readable by its owner only.

    Raises `TinyslmError` for an invalid name, and for a file that cannot be read or written.
    """
    key = f"tslm-{secrets.token_urlsafe(32)}"
    line = f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    if not _LINE.fullmatch(line):
        raise TinyslmError(
            f"{name!r} is not a valid name of a key.", "Use up to 64 letters, digits, dots, dashes, underscores and @."
        )
    if file is not None:
        before = read_small_text(file, KEYS_OPTION) if file.exists() else ""
        _append(file, ("\n" if before and not before.endswith("\n") else "") + line + "\n")
        _warn_if_open(file)
    return key, line


def _append(file: Path, text: str) -> None:
    """Append in one write, so that a server reads whole lines only; the file keeps its owner and mode."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(text.encode())
    except OSError as error:
        raise disk_error(file, error) from None


def _warn_if_open(file: Path) -> None:
    mode = file.stat().st_mode & 0o777
    if os.name == "posix" and mode & 0o027:
        logging.getLogger(__name__).warning(
            "Other users can read or change the key file %s (mode %04o): chmod 600 %s", file, mode, file
        )


def _parsed(text: str, place: str) -> Iterator[tuple[bytes, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:  # the message does not quote the line, which may be a key
            raise TinyslmError(
                f"Line {number} of {place} is not a hashed key.",
                "Each is a name, a space, and sha256: with 64 hex digits; tinyslm serve --make-key NAME makes one.",
            )
        yield bytes.fromhex(found["hash"]), found["name"]
