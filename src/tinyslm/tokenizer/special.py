"""Encode special tokens in rendered conversations where the template writes them, never where a message does.

A chat template renders one text, in which its own "<|im_end|>" looks like one in a message. So before rendering, `hide`
replaces each special token's name in the messages with a private-use character. After rendering, `SpecialEncoder` reads
the remaining names as special tokens, and restores the hidden ones as ordinary text.

It encodes with a copy of the tokenizer whose special tokens have names that no text contains; everything else about
them, such as the white space that some absorb, is unchanged.
"""

from __future__ import annotations

import json
import re
import secrets
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tokenizers

_HIDDEN = range(0xF0000, 0xFFFFE)  # replace the names in messages
_LEADS = range(0x100000, 0x10FFFE)  # the first character of the names in the copy
_COMPARED = ("role", "type")


@dataclass(frozen=True)
class Hidden:
    """Values with private-use characters for names of special tokens, and the text that each character replaces."""

    values: Any
    texts: Mapping[str, str]


@dataclass(frozen=True)
class Encoded:
    """The ids of a rendered text, and the offset of each in characters."""

    ids: list[int]
    begins: list[int]


class SpecialEncoder:
    """Encodes rendered conversations for one tokenizer."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        added = backend.get_added_tokens_decoder()
        self._backend = backend
        self._ids = {token.content: place for place, token in added.items() if token.special and token.content}
        self._beginnings = {name[:size] for name in self._ids for size in range(1, len(name))}
        self._longest = max(map(len, self._beginnings), default=0)
        self._sizes = sorted({len(name) for name in self._ids}, reverse=True)
        self._first = [re.escape(first) for first in {name[:2] for name in self._ids}]
        self._own = set().union(*self._ids)
        self._copy = _Copy(backend, secrets.choice(_LEADS))

    def hide(self, values: Any, others: str = "") -> Hidden:
        """Hide the names of special tokens in all strings of `values` (plain JSON).

        others: text whose private-use characters must not be used. The end of a string is hidden too if it is a prefix
        of a name, because the next string may complete it. Keys, roles and types that are plain words are unchanged,
        because templates compare them.
        """
        taken = self._own.union(others, *_texts(values))
        free = (chr(code) for code in _HIDDEN if chr(code) not in taken)
        characters: dict[str, str] = {}

        def character(text: str) -> str:
            if text not in characters:
                characters[text] = next(free)
            return characters[text]

        def hidden(text: str) -> str:
            text = self._replaced(text, character)
            stripped = text.rstrip()
            for size in range(min(self._longest, len(stripped)), 0, -1):
                if stripped[-size:] in self._beginnings:
                    return stripped[:-size] + character(stripped[-size:]) + text[len(stripped) :]
            return text

        values = _mapped(values, hidden)
        return Hidden(values, {short: long for long, short in characters.items()})

    def encode(self, text: str, hidden: Mapping[str, str]) -> Encoded:
        """Encode a rendered text; `hidden` maps private-use characters to the texts that they replace."""
        copy = self._copy
        if chr(copy.lead) in text:
            copy = _Copy(self._backend, next(code for code in _LEADS if chr(code) not in text))
        places = _Places()
        changed = []
        end = 0
        for begin, name in self._names(text, hidden):
            part = hidden[name] if name in hidden else copy.name(self._ids[name])
            places.replaced(begin, begin + len(name), len(part))
            changed += [text[end:begin], part]
            end = begin + len(name)
        ids, begins = copy.encode("".join([*changed, text[end:]]))
        return Encoded(ids, [places.before(begin) for begin in begins])

    def _replaced(self, text: str, change: Callable[[str], str]) -> str:
        changed = []
        end = 0
        for begin, name in self._names(text):
            changed += [text[end:begin], change(name)]
            end = begin + len(name)
        return "".join([*changed, text[end:]])

    def _names(self, text: str, more: Mapping[str, str] = {}) -> Iterator[tuple[int, str]]:
        """Find names of special tokens and characters of `more` in the text: (offset, longest name there)."""
        first = re.compile("|".join([*self._first, *more]) or "(?!)")
        sizes = [*self._sizes, 1]
        at = 0
        while match := first.search(text, at):
            at = match.start()
            parts = (text[at : at + size] for size in sizes)
            name = next((part for part in parts if part in self._ids or part in more), None)
            if name is not None:
                yield at, name
            at += len(name or " ")


class _Places:
    """Maps offsets in a text to offsets before parts of it were replaced."""

    def __init__(self) -> None:
        self._begins: list[int] = []  # of each new part, in the new text
        self._old: list[tuple[int, int, int]] = []  # begin and end in the old text, end in the new one

    def replaced(self, begin: int, end: int, length: int) -> None:
        """Record that `length` characters replace the old text from `begin` to `end`. Call in order."""
        _, old_end, new_end = self._old[-1] if self._old else (0, 0, 0)
        self._begins.append(new_end + begin - old_end)
        self._old.append((begin, end, self._begins[-1] + length))

    def before(self, at: int) -> int:
        """The old offset of the character at `at`; inside a replaced part, the offset of its beginning."""
        number = bisect_right(self._begins, at) - 1
        if number < 0:
            return at
        begin, end, new_end = self._old[number]
        return begin if at < new_end else end + at - new_end


class _Copy:
    """A tokenizer whose special tokens have names of two private-use characters, the first of them `lead`."""

    def __init__(self, backend: tokenizers.Tokenizer, lead: int) -> None:
        self.lead = lead
        added = backend.get_added_tokens_decoder()
        special = sorted(place for place, token in added.items() if token.special)
        assert len(special) < len(_HIDDEN), "more special tokens than private-use characters"
        self._names = {place: chr(lead) + chr(_HIDDEN[number]) for number, place in enumerate(special)}
        self.backend = _renamed(backend, {added[place].content: name for place, name in self._names.items()})
        assert all(self.backend.token_to_id(name) == place for place, name in self._names.items())

    def name(self, place: int) -> str:
        return self._names[place]

    def encode(self, text: str) -> tuple[list[int], list[int]]:
        """The ids and their offsets."""
        encoding = self.backend.encode(whole_characters(text), add_special_tokens=False)
        return encoding.ids, [begin for begin, _ in encoding.offsets]


def whole_characters(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which `tokenizers` rejects."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def unreachable(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """A copy of `backend` that never encodes text as a special token."""
    copy = _Copy(backend, secrets.choice(_LEADS)).backend
    copy.encode_special_tokens = True
    return copy


def _renamed(backend: tokenizers.Tokenizer, names: Mapping[str, str]) -> tokenizers.Tokenizer:
    """A copy of `backend` with other names of added tokens, without the merges that make them."""
    from tokenizers import Tokenizer

    content = json.loads(backend.to_str())
    content["post_processor"] = None
    for token in content["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(name, name): place for name, place in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(name, name), score] for name, score in model["vocab"]]
    model["unk_token"] = names.get(model.get("unk_token"), model.get("unk_token"))
    if "merges" in model:
        model["merges"] = [
            [left, right]
            for left, right in model["merges"]
            if left not in names and right not in names and left + right not in names
        ]
    return Tokenizer.from_str(json.dumps(content))


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _texts(value)


def _mapped(values: Any, change: Callable[[str], str], key: object = None) -> Any:
    """`values` with `change` applied to all strings but plain words that are keys or values of `_COMPARED` keys."""
    if isinstance(values, str):
        return values if key in _COMPARED and values.isidentifier() else change(values)
    if isinstance(values, Mapping):
        return {_mapped(name, change, "role"): _mapped(value, change, name) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_mapped(value, change) for value in values]
    return values
