"""Write settings as TOML with comments: the standard library only reads TOML."""

from collections.abc import Iterable, Mapping
from typing import Any


def toml_value(value: object) -> str:
    """Format a string, number, boolean or list as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(_ESCAPES.get(character, character) for character in value) + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return str(value)


def toml_table(name: str, values: Mapping[str, Any], comments: Mapping[str, str]) -> Iterable[str]:
    """The lines of the table `[name]`, each value followed by its comment, if any."""
    yield f"[{name}]"
    for key, value in values.items():
        comment = comments.get(key, "")
        yield f"{key} = {toml_value(value)}{f'  # {comment}' if comment else ''}"


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"} | {
    chr(code): f"\\u{code:04x}" for code in (*range(9), 11, 12, *range(14, 32), 127)
}
"""Characters that a basic string must escape (TOML 1.0.0, "String")."""
