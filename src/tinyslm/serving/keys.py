"""Keys that clients show, kept as hashes.

A key is 256 random bits, so that its plain SHA-256 tells nobody what it was. A file holds one key a line: a name, a
space, and `sha256:` with the hash in hex; the environment variable holds the same, separated by commas or lines.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_atomic
from tinyslm.core.text_files import read_small_text

KEYS_OPTION = "--keys"
_PREFIX = "tslm-"
_LINE = re.compile(r"(?P<name>[\w.@-]{1,64})\s+sha256:(?P<hash>[0-9a-fA-F]{64})")


class Keys:
    """Names of keys by the hashes of these. Without any, nobody needs one."""

    def __init__(self, names: Mapping[bytes, str]) -> None:
        self._names = dict(names)

    def __bool__(self) -> bool:
        return bool(self._names)

    def name(self, key: str) -> str | None:
        """Whose key it is; `None`: nobody's. Takes as long for every wrong key."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        found = None
        for known, name in self._names.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found


def read_keys(file: Path | None, variable: str = "") -> Keys:
    """The keys of a file, and those in the value of the environment variable.

    Raises `TinyslmError` for a file that cannot be read and for a line that is none.
    """
    names = dict(_parsed(variable.replace(",", "\n"), "the environment variable"))
    if file is not None:
        names |= _parsed(read_small_text(file, KEYS_OPTION), str(file))
    return Keys(names)


def make_key(name: str, file: Path | None = None) -> tuple[str, str]:
    """A new key and its line, which is added to `file` if given.

    Raises `TinyslmError` for a name that cannot be a key's, and for a file that cannot be read or written.
    """
    key = _PREFIX + secrets.token_urlsafe(32)
    line = f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    if not _LINE.fullmatch(line):
        raise TinyslmError(f"{name!r} cannot be a key's name.", "Use letters, digits, dots and dashes, at most 64.")
    if file is not None:
        before = read_small_text(file, KEYS_OPTION) if file.exists() else ""
        write_atomic(file, before + ("\n" if before and not before.endswith("\n") else "") + line + "\n")
    return key, line


def _parsed(text: str, place: str) -> Iterator[tuple[bytes, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:  # which may hold a key: it is not repeated
            raise TinyslmError(
                f"Line {number} of {place} is no hashed key.",
                "Each is a name, a space, and sha256: with 64 hex digits; tinyslm serve --make-key NAME makes one.",
            )
        yield bytes.fromhex(found["hash"]), found["name"]
