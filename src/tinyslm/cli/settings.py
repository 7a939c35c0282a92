"""The settings of a run, from the command line and for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_origin

from tinyslm.core.config import Section, Settings, fields, flatten, load_config
from tinyslm.core.toml import toml_value


def settings(kind: type[Settings], file: Path | None, options: Sequence[str]) -> Settings:
    """Settings from defaults, a file and gathered options."""
    return load_config(kind, file, nested(kind, options))


def nested(kind: type[Section], options: Sequence[str]) -> dict[str, Any]:
    """Options like `model.depth=6` as `{"model": {"depth": "6"}}`. The last one counts; those of a list add up."""
    lists = {key for key, field in fields(kind) if get_origin(field.annotation) is tuple}
    values: dict[str, Any] = {}
    for option in options:
        key, _, value = option.partition("=")
        *groups, name = key.replace("-", "_").split(".")
        section = values
        for group in groups:
            section = section.setdefault(group, {})
        section[name] = [*section.get(name, ()), value] if ".".join([*groups, name]) in lists else value
    return values


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
        lines.append(f"{'# ' if follows else ''}{name} = {toml_value(resolved[key])}  # {field.description}")
    return "\n".join(lines).strip()
