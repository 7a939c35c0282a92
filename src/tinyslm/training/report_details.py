"""The details at the end of a report: the data, the settings and the versions of a run."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from os.path import commonpath
from pathlib import PurePath
from typing import Any

from tinyslm.core.config import Section, flatten
from tinyslm.core.page import Block, Folded, SideBySide, Table
from tinyslm.core.quantities import size
from tinyslm.training.config import RunConfig

MOST_ITEMS = 8
"""More sources are summed up by folder; longer lists in a setting are counted, not listed."""
MOST_FOLDERS = 12
"""Of more folders, the largest are listed."""
SOURCES = ("source", "for", "documents", "text", "left out")
COLUMNS = {
    "documents": "documents",
    "examples": "examples",
    "tokens": "tokens",
    "learned_tokens": "learned tokens",
    "utf8_bytes": "text",
}
"""What a manifest says of a split, and its title."""


def data_blocks(manifest: Mapping[str, Any]) -> list[Block]:
    """The shards: where their text came from, what was dropped, and what each split holds."""
    splits = manifest.get("splits", {})
    columns = [column for column in COLUMNS if any(column in split for split in splits.values())]
    rows = [(name, *(_counted(column, split) for column in columns)) for name, split in splits.items()]
    tokenizer = [(key.replace("_", " "), plain(value)) for key, value in manifest.get("tokenizer", {}).items()]
    blocks = _sources(manifest.get("sources", []))
    if rows:
        blocks.append(Table(rows, ("split", *(COLUMNS[column] for column in columns)), "Splits"))
    if tokenizer:
        blocks.append(Folded("Tokenizer", [Table(tokenizer)]))
    return blocks


def _counted(column: str, split: Mapping[str, Any]) -> str:
    return size(_number(split.get(column))) if column == "utf8_bytes" else shown(split.get(column))


def _sources(sources: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Each source, by its path relative to the folder that holds all of them; many are summed up by folder."""
    if not sources:
        return []
    folder, names = _relative([f"{source.get('path', '–')}" for source in sources])
    caption = f"Sources in {folder}" if folder else "Sources"
    rows = [_source(name, [source]) for name, source in zip(names, sources, strict=True)]
    if len(rows) <= MOST_ITEMS:
        return [Table(rows, SOURCES, caption)]
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for name, source in zip(names, sources, strict=True):
        first, _, rest = name.partition("/")
        groups.setdefault((f"{first}/" if rest else "", f"{source.get('for', '–')}"), []).append(source)
    named = [
        (f"{group}{'' if group else folder or 'all'} ({len(some):,})", some) for (group, _), some in groups.items()
    ]
    if len(named) > MOST_FOLDERS:
        named.sort(key=lambda one: -sum(_number(source.get("kept_bytes")) for source in one[1]))
        others = [source for _, some in named[MOST_FOLDERS:] for source in some]
        named[MOST_FOLDERS:] = [(f"{len(named) - MOST_FOLDERS:,} other folders ({len(others):,})", others)]
    summed = [_source(name, some) for name, some in named]
    return [Table(summed, SOURCES, caption), Folded(f"All {len(rows):,} sources", [Table(rows, SOURCES)])]


def _relative(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that holds several paths, and these relative to it; "" where there is none."""
    try:
        folder = commonpath([PurePath(path).parent for path in paths]) if len(paths) > 1 else ""
    except ValueError:  # absolute and relative ones
        folder = ""
    return folder, [PurePath(path).relative_to(folder).as_posix() if folder else path for path in paths]


def _source(name: str, some: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """One row for one source or several."""
    left_out: Counter[str] = Counter()
    for source in some:
        left_out.update({**source.get("dropped_documents", {}), **source.get("incidents", {})})
    documents = sum(int(_number(source.get("kept_documents"))) for source in some)
    text = size(sum(_number(source.get("kept_bytes")) for source in some))
    counts = ", ".join(f"{shown(number)} {what.replace('_', ' ')}" for what, number in left_out.items())
    uses = dict.fromkeys(f"{source.get('for', '–')}" for source in some)
    return (name, ", ".join(uses), f"{documents:,}", text, counts or "nothing")


def settings_blocks(config: Mapping[str, Any], versions: Mapping[str, Any]) -> list[Block]:
    """What was set otherwise than by default, in words; all settings and the versions folded below."""
    usual, about = RunConfig().model_dump(mode="json"), dict(_descriptions(RunConfig))
    defaults, started = dict(flatten(usual)), config.get("train", {}).get("start_from")  # with its own shape
    changed = [
        (_words(about.get(name, name)), plain(value), name)
        for name, value in flatten(config)
        if value != defaults.get(name) and not (started and name.startswith("model."))
    ]
    blocks: list[Block] = [Table(changed, ("setting", "value", "name"))] if changed else []
    if config:
        blocks.append(Folded("All settings", _tables(config)))
    if versions:
        blocks.append(Folded("Versions", _tables(versions)))
    return blocks


def _words(description: str) -> str:
    """What a setting is, without what its values mean."""
    return description.partition(";")[0].partition(" (")[0].replace("`", "").rstrip(".")


def _descriptions(kind: type[Section], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The description of each setting by its name, as section.key."""
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _descriptions(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field.description or name


def _tables(value: Mapping[str, Any]) -> list[Block]:
    """A JSON object as tables: its plain values first, then one table for each object in it."""
    single = {key: item for key, item in value.items() if not isinstance(item, Mapping)}
    nested = {key: item for key, item in value.items() if isinstance(item, Mapping) and item}
    tables = [Table([(key, plain(item)) for key, item in flatten(part)], caption=name)
              for name, part in [("", single), *nested.items()] if part]  # fmt: skip
    return [SideBySide(tables)]


def plain(value: Any) -> str:
    """A setting or a recorded fact, as it is; large counts with separators."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10_000:
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) if len(value) <= MOST_ITEMS else f"{len(value):,} items"
    return "–" if value is None else str(value)


def shown(value: Any) -> str:
    """A measured value, with as many digits as one reads."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return plain(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
