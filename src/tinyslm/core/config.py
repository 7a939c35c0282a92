"""Settings: frozen, strict, from a TOML or YAML file and `--section.key value` overrides.

Every class of settings derives from `Section`. One error reports all mistakes, each with its place and a suggestion.
"""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.core.text_files import read_small_text


class Section(BaseModel):
    """A group of settings. Unknown keys are errors; values do not change after construction.

    Each field carries a one-sentence description: the command line shows it as help.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    one_of: ClassVar[tuple[str, ...]] = ()
    """Mutually exclusive settings: an override of one of them drops the others from the file."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        missing = [name for name, field in cls.model_fields.items() if not field.description]
        assert not missing, f"{cls.__name__}: fields without a description: {missing}"


Settings = TypeVar("Settings", bound=Section)


def load_config(kind: type[Settings], file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Build settings of class `kind`: defaults, then the file's values, then the overrides (the last one wins).

    `overrides` is nested like the file: `{"model": {"depth": "6"}}`; strings are converted to the field's type. Raises
    `TinyslmError` for a file that cannot be read and for wrong settings.
    """
    values = read_config_file(file) if file else {}
    return build_config(kind, override(kind, values, overrides or {}), origin=str(file) if file else "the settings")


def build_config(kind: type[Settings], values: Mapping[str, Any], origin: str = "the settings") -> Settings:
    """Build settings of class `kind` from `values`. Raises one `TinyslmError` that names every mistake."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        mistakes = [_explain(kind, mistake) for mistake in error.errors(include_url=False)]
    count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    raise TinyslmError(
        f"{count} in {origin}: " + "; ".join(mistakes),
        "Correct them and run again; `tinyslm config` lists every setting with its default and meaning.",
    )


def read_config_file(file: Path, option: str = "--config") -> dict[str, Any]:
    """Read a `.toml`, `.yaml`, `.yml` or `.json` file into a dictionary. Raises `TinyslmError`.

    option: the command-line option that named the file, for error messages.
    """
    text = read_small_text(file, option)
    try:
        values = tomllib.loads(text) if file.suffix == ".toml" else yaml.safe_load(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise TinyslmError(f"{file} is not valid {file.suffix[1:].upper()}: {reason}.", "Correct the file.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise TinyslmError(f"{file} holds no sections.", "Write settings as [section] with key = value lines below it.")
    return values


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `base`, updated with the values of `over` section by section."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def override(kind: type[Section], base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`merge` for settings of class `kind`, without the settings of `base` that exclude one of `over` (`one_of`)."""
    left = {key: value for key, value in base.items() if key not in kind.one_of or over.keys().isdisjoint(kind.one_of)}
    for name, field in kind.model_fields.items():
        old, new = left.get(name), over.get(name)
        if _is_section(field.annotation) and isinstance(old, Mapping) and isinstance(new, Mapping):
            left[name] = override(field.annotation, old, new)  # type: ignore[arg-type]
    return merge(left, over)  # merging the sections again changes nothing


def fields(kind: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting of `kind` with its dotted key, sections in order."""
    for name, field in kind.model_fields.items():
        if _is_section(field.annotation):
            yield from fields(field.annotation, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield prefix + name, field


def differences(old: Section, new: Section) -> list[str]:
    """`key: old -> new` for every setting in which two objects of one class differ."""
    before, after = dict(flatten(old.model_dump(mode="json"))), dict(flatten(new.model_dump(mode="json")))
    return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in after if before.get(key) != after.get(key)]


def flatten(values: Mapping[str, Any], separator: str = ".", prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested dictionaries as `section.key`, value pairs, in order."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, separator, f"{prefix}{key}{separator}")
        else:
            yield prefix + key, value


def _is_section(annotation: Any) -> bool:
    return get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, Section)


def _siblings(kind: type[Section], key: str) -> list[str]:
    """The names to suggest for an unknown key: the settings of its section, or the sections."""
    group = key.rpartition(".")[0]
    siblings = [name for name, _ in fields(kind) if group and name.rpartition(".")[0] == group]
    return siblings or list(kind.model_fields)


def _explain(kind: type[Section], mistake: Any) -> str:
    """Describe one of pydantic's errors, with the dotted key."""
    key = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        return f'there is no setting "{key}" ({did_you_mean(key, _siblings(kind, key))})'
    if mistake["type"] == "value_error":
        text = str(mistake["ctx"]["error"])
        return f"{key}: {text}" if key else text
    return f"{key} = {wrong_value(mistake)}"


_MUST_BE = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "model_type": "a section with settings of its own",
    "string_type": "a text",
    "tuple_type": "a list",
}
"""Descriptions of values in place of pydantic's, which use Python's terms, by pydantic's error type."""


def wrong_value(mistake: Mapping[str, Any]) -> str:
    """Describe one of pydantic's errors in a value: `abc: must be a whole number`."""
    message = str(mistake["msg"])
    wanted = _MUST_BE.get(mistake["type"], message.removeprefix("Input should be "))
    return f"{mistake['input']}: must be {wanted}" if wanted != message else f"{mistake['input']}: {message}"
