"""What a published npm package is: its archive is known by a checksum, and some of its files are used."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A package. integrity: the SHA-512 of its archive, as npm writes it. licence: its SPDX name, and of what it
    contains. files: what a page takes, from the path in the package to the path below `page/runtime`.
    """

    name: str
    version: str
    integrity: str
    licence: str
    files: Mapping[str, str]

    @property
    def archive(self) -> str:
        """The name of the file that the registry and `npm pack` give."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def is_in(self, content: bytes) -> bool:
        """Whether this is the package's archive."""
        return self.integrity == "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
