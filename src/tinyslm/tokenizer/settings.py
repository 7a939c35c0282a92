"""Read the files next to `tokenizer.json`: which tokens begin, end and pad texts, and the chat template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.json_files import read_json
from tinyslm.tokenizer.backend import DAMAGED, LARGEST
from tinyslm.tokenizer.vocabulary import END_OF_TEXT

if TYPE_CHECKING:
    import tokenizers

CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
STOPS = "stop_token_ids"  # tinyslm's entry in tokenizer_config.json, for folders without generation_config.json


@dataclass(frozen=True)
class Settings:
    """Names of tokens by role, the ids that end a generation, and the chat template."""

    eos: str
    pad: str | None
    bos: str | None
    unk: str | None
    stops: tuple[int, ...]
    chat_template: str | None


def read_settings(folder: Path, backend: tokenizers.Tokenizer) -> Settings:
    """Read the settings in `folder`.

    The end token is the one that `tokenizer_config.json` names (or `special_tokens_map.json` in older folders); else
    the first of `generation_config.json` or `config.json`; else `<|endoftext|>`.
    Raises `TinyslmError` when there is none, or when a file is damaged.
    """
    config = _read(folder / CONFIG)
    if "added_tokens_decoder" not in config:
        config |= _read(folder / "special_tokens_map.json")  # as in transformers
    stops = _stops(folder, config)
    vocab = backend.get_vocab(with_added_tokens=True)

    def named(key: str) -> str | None:
        value = config.get(key)
        name = value.get("content") if isinstance(value, dict) else value
        return name if isinstance(name, str) and name in vocab else None

    names = [named("eos_token"), *map(backend.id_to_token, stops), END_OF_TEXT if END_OF_TEXT in vocab else None]
    eos = next((name for name in names if name is not None), None)
    if eos is None:
        special = sorted(token.content for token in backend.get_added_tokens_decoder().values() if token.special)
        raise TinyslmError(
            f"{folder / CONFIG} names no special token as eos_token, the end of a text.",
            f'Add "eos_token" there; tokenizer.json has: {", ".join(special[:8]) or "no special tokens"}.',
        )
    return Settings(eos, named("pad_token"), named("bos_token"), named("unk_token"), stops, read_chat_template(folder))


def _read(file: Path) -> dict[str, Any]:
    """The settings in one file; empty if it does not exist."""
    return read_json(file, remedy=DAMAGED) if file.is_file() else {}


def _stops(folder: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    """The ids that end a generation, from the model's settings, else from the tokenizer's."""
    generation = folder / "generation_config.json"
    sources = [(generation, "eos_token_id"), (folder / "config.json", "eos_token_id")]
    for file, key in sources:
        ids = _ids(file, _read(file).get(key))
        if ids:
            return ids
    return _ids(folder / CONFIG, config.get(STOPS))


def _ids(file: Path, value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(token, int) and not isinstance(token, bool) and token < LARGEST for token in values):
        raise TinyslmError(
            f"{file} names {value!r} as the ids that end a text.", "Give the id of a token, or a list of ids."
        )
    return tuple(token for token in values if token >= 0)


def read_chat_template(folder: Path) -> str | None:
    """The template in `chat_template.jinja`, else in `tokenizer_config.json`, as in older folders; None without one.

    Raises `TinyslmError` for a damaged file.
    """
    file = folder / TEMPLATE
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TinyslmError(f"Could not read {file}: {error}.", DAMAGED) from None
    template = _read(folder / CONFIG).get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None
