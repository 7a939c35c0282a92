"""Tools by name, as the command line takes them: `calculator`, `files=FOLDER`, `fetch=HOST`."""

from __future__ import annotations

from collections.abc import Sequence

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.inference.tools.tool import Tool

NAMES = {
    "calculator": "arithmetic",
    "clock": "date and time",
    "files": "list, read and search the text files below FOLDER",
    "write": "the same, and write them",
    "notes": "find passages in the text files below FOLDER",
    "fetch": "read web pages of HOST",
}
_PLAIN = ("calculator", "clock")


def named_tools(names: Sequence[str]) -> list[Tool]:
    """The tools that `names` stand for: see `NAMES`. `fetch` may be given several times, for several hosts.

    Raises `TinyslmError` for one that there is not, for one without its folder or host, and for a folder that is none.
    """
    tools: list[Tool] = []
    hosts: list[str] = []
    for given in names:
        name, _, value = given.partition("=")
        if name not in NAMES:
            raise TinyslmError(f"There is no tool {name!r}.", did_you_mean(name, NAMES))
        if bool(value) == (name in _PLAIN):
            wanted = name if name in _PLAIN else f"{name}={'HOST' if name == 'fetch' else 'FOLDER'}"
            raise TinyslmError(f"The tool {given!r} is not given as it must be.", f"Write {wanted}.")
        if name == "fetch":
            hosts.append(value)
        else:
            tools += _made(name, value)
    if hosts:
        from tinyslm.inference.tools.fetch import fetch_tool

        tools.append(fetch_tool(hosts))
    return tools


def _made(name: str, folder: str) -> list[Tool]:
    if name == "calculator":
        from tinyslm.inference.tools.calculator import calculator

        return [calculator]
    if name == "clock":
        from tinyslm.inference.tools.clock import clock

        return [clock]
    if name == "notes":
        from tinyslm.agents.retrieval import retrieve_tool

        return [retrieve_tool(folder)]
    from tinyslm.inference.tools.files import file_tools

    return file_tools(folder, write=name == "write")
