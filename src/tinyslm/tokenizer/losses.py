"""What a tokenizer loses: text that decoding does not restore."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tinyslm.core.errors import TinyslmError
from tinyslm.core.printable import one_line
from tinyslm.tokenizer.special import whole_characters
from tinyslm.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Losses:
    """How many of some texts are not restored, and how many of their characters do not come back.

    example: the first text that is not restored, around the first difference, and what becomes of it.
    """

    texts: int = 0
    changed: int = 0
    characters: int = 0
    lost: int = 0
    example: tuple[str, str] = ("", "")

    def __add__(self, other: Losses) -> Losses:
        return Losses(
            self.texts + other.texts,
            self.changed + other.changed,
            self.characters + other.characters,
            self.lost + other.lost,
            self.example if self.changed else other.example,
        )

    def __str__(self) -> str:
        before, after = (one_line(part, 40) for part in self.example)
        return (
            f"{_percent(self.lost, self.characters)} of the characters do not come back, in {self.changed:,} of "
            f'{self.texts:,} texts ({_percent(self.changed, self.texts)}), such as "{before}", which becomes "{after}"'
        )


def losses(tokenizer: Tokenizer, pairs: Iterable[tuple[str, list[int]]]) -> Losses:
    """What the tokenizer loses of texts, given with their ids. Costs nothing where nothing can be lost.

    Other Unicode forms of the same characters (NFC) do not count as a loss.
    """
    found = Losses()
    for text, ids in () if tokenizer.table.exact else pairs:
        found += _loss(tokenizer, text, ids)
    return found


def refuse(found: Losses) -> None:
    """Raise `TinyslmError` if something was lost."""
    if found.changed:
        raise TinyslmError(
            f"The tokenizer loses text: {found}.", "Use another tokenizer, or accept the loss with --lossy."
        )


def _loss(tokenizer: Tokenizer, text: str, ids: list[int]) -> Losses:
    text, restored = whole_characters(text), tokenizer.decode(ids)
    if text == restored:
        return Losses(1, 0, len(text))
    text, restored = (unicodedata.normalize("NFC", one) for one in (text, restored))
    if text == restored:
        return Losses(1, 0, len(text))
    lost = (Counter(text) - Counter(restored)).total()
    place = next((n for n, (a, b) in enumerate(zip(text, restored, strict=False)) if a != b), len(restored))
    begin = max(0, place - 10)
    return Losses(1, 1, len(text), lost, (text[begin : place + 20], restored[begin : place + 20]))


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0.0
    return f"{share:.2f} %" if share >= 0.01 or not part else "less than 0.01 %"
