"""Ending a text in time: a document is whole also when `max_tokens` comes near.

Whoever generates asks before each token whether the text could still be ended after it with the tokens that are left.
While it could, the model's token stands. When it could not, the first token of an ending that is known to fit takes
its place (a stop token, where the text may end as it is). So the rule holds after every token, from the first one on,
and the text is whole at the latest with the last token, if all of them are enough for the shortest text that was found
at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyslm.inference.ending import Endings, Letters, leads_to_end

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from tinyslm.inference.vocabulary import Vocabulary


@dataclass(frozen=True)
class Ending:
    """The same text in letters and in tokens."""

    letters: Letters
    ids: list[int]


class Closing:
    """What a grammar's texts share: the parser over letters, what is known of endings, and a short text.

    Attributes:
        shortest: the shortest text that was found; None if none was, and then no text is ended in time.
        reserve: with so many tokens left and more, nothing is checked.
    """

    def __init__(self, start: LLMatcher, vocabulary: Vocabulary, source: str) -> None:
        """`start`: the beginning of the grammar over letters."""
        self.vocabulary = vocabulary
        self.endings = Endings(vocabulary)
        self.start = start
        found = self.endings.find(start, thorough=True)
        self.shortest = None if found is None else Ending(found, vocabulary.shortened(found))
        # What a single token may oblige a text to (names, constants) is written in the grammar.
        self.reserve = len(source) // 2 + len(self.shortest.ids if self.shortest else ())


class Closer:
    """One text's way to its end."""

    def __init__(self, closing: Closing) -> None:
        self._closing = closing
        self._place = closing.start.deep_copy()  # over letters, for searches; it follows when there is one
        self._place_taken: list[int] = []
        self._count = 0  # tokens before `_here`
        self._here: Ending | None = closing.shortest
        self._hint: Letters = closing.shortest.letters if closing.shortest else []
        self._expected: tuple[int, Ending] | None = None  # a token and the ending after it

    def settle(self, token: int, taken: Sequence[int], left: int, inner: LLMatcher) -> int:
        """See `Matcher.settle`; `taken`: all tokens up to now; `inner`: the text's place, over all tokens."""
        if self._closing.shortest is None or left > self._closing.reserve or token in self._closing.vocabulary.stops:
            return token
        self._follow(taken)
        after = self._ending_after(token, taken, inner)
        if after is not None and len(after.ids) < left:
            self._expected = token, after
            return token
        here = self._ending_here(taken)
        if here is None or (after is not None and len(after.ids) < len(here.ids)):
            return token  # it was too late from the start
        if not here.ids:
            return self._closing.vocabulary.stop
        first = here.ids[0]
        rest = here.letters[len(self._closing.vocabulary.letters_of(first)) :]
        self._expected = first, Ending(rest, here.ids[1:])
        return first

    def _follow(self, taken: Sequence[int]) -> None:
        """The ending that was expected holds when just the token came that was expected, else none is known."""
        if len(taken) == self._count:
            return
        expected, self._expected = self._expected, None
        as_expected = expected is not None and list(taken[self._count :]) == [expected[0]]
        self._here = expected[1] if expected is not None and as_expected else None
        self._count = len(taken)
        if self._here is not None:
            self._hint = self._here.letters

    def _ending_after(self, token: int, taken: Sequence[int], inner: LLMatcher) -> Ending | None:
        letters = self._closing.vocabulary.letters_of(token)
        here = self._here
        if here is not None and letters and here.letters[: len(letters)] == letters:
            if here.ids[0] == token:
                return Ending(here.letters[len(letters) :], here.ids[1:])
            return self._ending(here.letters[len(letters) :])
        if not letters:
            return None
        if here is not None and leads_to_end(inner, [token, *here.letters], self._closing.vocabulary):
            return here
        after = self._followed(taken).deep_copy()
        if after.try_consume_tokens(letters) != len(letters):
            return None
        return self._ending(self._closing.endings.find(after, self._hint))

    def _ending_here(self, taken: Sequence[int]) -> Ending | None:
        if self._here is None:
            self._here = self._ending(self._closing.endings.find(self._followed(taken), self._hint))
        return self._here

    def _followed(self, taken: Sequence[int]) -> LLMatcher:
        """The place over letters behind `taken`."""
        letters_of, before = self._closing.vocabulary.letters_of, self._place_taken
        same = next((at for at, both in enumerate(zip(before, taken, strict=False)) if both[0] != both[1]), None)
        if same is None:
            same = min(len(before), len(taken))
        if same < len(before):
            self._place.rollback(sum(len(letters_of(token)) for token in before[same:]))
        for token in taken[same:]:
            self._place.consume_tokens(letters_of(token))
        self._place_taken = list(taken)
        return self._place

    def _ending(self, letters: Letters | None) -> Ending | None:
        return None if letters is None else Ending(letters, self._closing.vocabulary.shortened(letters))
