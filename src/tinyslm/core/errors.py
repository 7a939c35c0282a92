"""Errors that the user can correct, in two lines: the problem, and the remedy.

Bugs in tinyslm raise other exceptions, with a traceback.
"""

import difflib
import shlex
import sys
from collections.abc import Iterable
from importlib.util import find_spec


class TinyslmError(Exception):
    """A problem, with the value that caused it, and a remedy.

    The command line prints them on two lines and exits with code 2.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n{remedy}")
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type["TinyslmError"], tuple[str, str]]:
        """Keep both parts when the error crosses a process boundary."""
        return type(self), (self.problem, self.remedy)


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """`Did you mean "depth"?` for a name that resembles an allowed one, else the list of allowed names."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f'Did you mean "{close[0]}"?'
    return f"Allowed: {', '.join(names)}." if names else ""


def require_extra(extra: str, what: str) -> TinyslmError:
    """The error for a feature whose optional dependency is not installed."""
    return TinyslmError(
        f'{what} needs the optional dependency group "{extra}", which is not installed.',
        f"Install it: {_installer()} 'tinyslm[{extra}]'",
    )


def _installer() -> str:
    """The command that installs packages into this environment."""
    python = shlex.quote(sys.executable)
    return f"{python} -m pip install" if find_spec("pip") else f"uv pip install --python {python}"
