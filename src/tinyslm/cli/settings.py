"""`--section.key value` options: the settings of a run on the command line."""

from collections.abc import Mapping
from pathlib import Path

from tinyslm.core.config import Section, Settings, fields, flatten, load_config
from tinyslm.core.errors import TinyslmError

Overrides = dict[str, str]


def settings(kind: type[Settings], file: Path | None, overrides: Mapping[str, Overrides]) -> Settings:
    """Settings from defaults, a file and options like `--model.depth 6`."""
    for name, value in overrides.items():
        if not isinstance(value, dict):
            raise TinyslmError(
                f"Unknown option --{name}.", "Settings are written --section.key value; `tinyslm config` lists them."
            )
    return load_config(kind, file, overrides)


def explain(kind: type[Section]) -> str:
    """Every setting of `kind` with its default and meaning, as TOML that can be edited and given to `--config`.

    A setting that follows from others unless it is given is commented out.
    """
    resolved = dict(flatten(kind().model_dump()))
    lines: list[str] = []
    section = ""
    for key, field in fields(kind):
        group, name = key.rsplit(".", 1)
        if group != section:
            section = group
            lines += ["", f"[{section}]"]
        follows = field.default != resolved[key]
        lines.append(f"{'# ' if follows else ''}{name} = {_toml(resolved[key])}  # {field.description}")
    return "\n".join(lines).strip()


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value)
