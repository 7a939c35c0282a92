"""What a bundle is: a value that turns a model folder into a folder ready to publish, and proves that it works.

The front door (`deploying.py`) looks after everything that bundles share: the input, the folder that is whole or
absent, the model card, sizes and times.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyslm.core.registry import Registry

Progress = Callable[[str, int, int], None]
"""Told what is done, and how much of how much: bytes, or 0 of 0."""


@dataclass(frozen=True)
class Contents:
    """What a bundle is made from.

    model: a model folder that can be read. name: what the model is called in file names, addresses and requests
    (letters, digits, dots, dashes and underscores). title: for people, never empty. pack: the name of a registered
    pack, or "". sdk: one of the bundle's, or "" if it has none. fresh: whether to check in a new environment, where the
    bundle brings its requirements. runtime: archives of programs that the bundle carries.
    """

    model: Path
    name: str
    title: str
    pack: str = ""
    sdk: str = ""
    fresh: bool = False
    runtime: Sequence[Path] = ()


def _accept(_contents: Contents) -> None:
    pass


def no_limits(_contents: Contents) -> Sequence[str]:
    return ()


def _same(_contents: Contents, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    return metadata


@dataclass(frozen=True)
class Bundle:
    """One kind of deployable folder.

    accept: raises `TinyslmError` for contents that the bundle cannot have, such as a model that is too large, or if a
    package or program is missing; called before anything is written.
    write: the files of the bundle, into an empty folder; all but `README.md`, the model card, which is added.
    check: starts the bundle that lies in a folder as its visitors would, and uses it; gives what was tried and what
    came of it, in words. Raises `TinyslmError` if it does not work. It leaves the folder as it is.
    usage: the command that tries the bundle at this path on this machine. metadata: the front matter of `README.md`,
    made from that of the model card. limits: sentences of the card about the model in this form. sdks: what `--sdk` may
    be, the usual one first; none where it makes no sense.
    """

    name: str
    about: str
    write: Callable[[Contents, Path, Progress], None]
    check: Callable[[Contents, Path, Progress], Mapping[str, str]]
    usage: Callable[[Contents, Path], str]
    accept: Callable[[Contents], None] = _accept
    metadata: Callable[[Contents, Mapping[str, Any]], Mapping[str, Any]] = _same
    limits: Callable[[Contents], Sequence[str]] = no_limits
    sdks: Sequence[str] = ()


BUNDLES: Registry[Bundle] = Registry("bundle")
