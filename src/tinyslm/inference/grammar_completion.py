"""Completing a text in time: a document that follows a grammar is complete even when `max_tokens` is near.

The engine asks before each token whether the text could still be completed after it with the tokens that are left.
While it could, the model's token stands. When it could not, the first token of an ending that is known to fit takes its
place (a stop token, where the text may end as it is). So the rule holds after every token, and the text is complete at
the latest with the last token, if all of them suffice for the shortest text that was found at all.

A grammar's parser can be asked what may come next, not how far the end is. So an ending is searched by trying: from a
copy of the place in the grammar, byte by byte, preferring what closes strings, arrays and objects. What was found
before helps: after most tokens, the old ending or the rest of it still leads to the end.

Everything that is found has been accepted by the parser, so that it is an ending whatever the preferences were; that
none is found means little. The search sees texts as "letters": ids of single bytes, and of special tokens.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from tinyslm.inference.vocabulary import Vocabulary

Letters = list[int]
Allowed = NDArray[np.bool_]
"""For each letter of the vocabulary, in order."""

_MOST_STEPS = 400  # of the walk that takes what looks best each time
_MOST_PLACES = 2_000  # of the search through several ways at once: some 30 ms
_LONGEST = 4_000  # letters
_MOST_RESTS = 6
_MOST_HABITS = 5_000

_AMPLE = 4
"""With so many times the tokens of a known ending left, a token after which none is found may still come."""
_MOST_TRIES = 3  # of a letter that changes nothing, before another one: what repeats may have no end

_CLOSING = b'"),10ntf[{(-:'
_SAMPLE = b'"{}[],:01259.-+@/_ \\aeinrstuxzAEZTt'  # tried instead of all letters where many are allowed
_FEW = 12


class EndingSearch:
    """Looks for endings in one grammar, and gets better at it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._habits: dict[bytes, int] = {}

    def find(self, place: LLMatcher, known: Sequence[int] = (), *, thorough: bool = False) -> Letters | None:
        """Letters that lead from `place`, which stays as it is, to a text that may end; None where none were found.

        place: in the grammar over letters. known: an ending of a place some tokens before. thorough: look for a shorter
        one than the first that is found.
        """
        if place.is_accepting():
            return []
        search = _Search(self._vocabulary, self._habits, list(known))
        walked = search.walk(place)
        if walked is not None and not thorough:
            return walked
        found = search.explore(place, _LONGEST if walked is None else len(walked))
        if found is not None:
            search.remember(place, found)
        return walked if found is None else found


class _Search:
    def __init__(self, vocabulary: Vocabulary, habits: dict[bytes, int], known: Letters) -> None:
        self._vocabulary = vocabulary
        self._habits = habits
        self._rests: dict[int, list[Letters]] = {}
        structure = {vocabulary.letter_ids.get(bytes([byte])) for byte in b'",]}'}
        for start, letter in enumerate(known):
            if start == 0 or letter in structure:
                self._rests.setdefault(letter, []).append(known[start:])

    def walk(self, place: LLMatcher) -> Letters | None:
        """Follow what looks nearest to the end, without backtracking."""
        here, path = place.deep_copy(), Letters()
        before, stay = b"", 0  # what was allowed, and for how many steps it has been the same
        for _ in range(_MOST_STEPS):
            path += self._forced(here)
            if here.is_accepting():
                return path
            if len(path) > _LONGEST:
                return None
            allowed = self._allowed(here)
            if (rest := self._rest(here, allowed)) is not None:
                return path + rest
            before, stay = (key, stay + 1) if (key := allowed.tobytes()) == before else (key, 0)
            letter = next(islice(self._nearest(allowed), stay // _MOST_TRIES, None), None)
            if letter is None or not here.consume_token(letter):
                return None
            path.append(letter)
        return None

    def explore(self, place: LLMatcher, longest: int) -> Letters | None:
        """The shortest way of those tried; places that are as far and allow the same count as one."""
        ties = count()
        waiting: list[tuple[int, int, Letters, LLMatcher | None]] = [(0, next(ties), [], place.deep_copy())]
        seen: set[tuple[int, bytes]] = set()
        for _ in range(_MOST_PLACES):
            if not waiting:
                return None
            _, _, path, here = heapq.heappop(waiting)
            if here is None:
                return path
            path = path + self._forced(here)
            if here.is_accepting():
                heapq.heappush(waiting, (len(path), next(ties), path, None))
                continue
            if len(path) > longest:
                continue
            allowed = self._allowed(here)
            key = len(path), allowed.tobytes()
            if key in seen:
                continue
            seen.add(key)
            if (rest := self._rest(here, allowed)) is not None:
                heapq.heappush(waiting, (len(path) + len(rest), next(ties), path + rest, None))
            for letter in self._some(allowed):
                after = here.deep_copy()
                if after.consume_token(letter):
                    heapq.heappush(waiting, (len(path) + 1, next(ties), [*path, letter], after))
        return None

    def remember(self, place: LLMatcher, way: Letters) -> None:
        """Note where the way went on among several letters."""
        here = place.deep_copy()
        done = len(self._forced(here))
        while done < len(way):
            allowed = self._allowed(here)
            if allowed.sum() > 1 and len(self._habits) < _MOST_HABITS:
                self._habits[allowed.tobytes()] = way[done]
            here.consume_token(way[done])
            done += 1 + len(self._forced(here))

    def _forced(self, here: LLMatcher) -> Letters:
        """Append the bytes that are forced."""
        forced = here.compute_ff_bytes().split(b"\xff", 1)[0]  # 0xFF, which no text has, begins special tokens
        letters = self._vocabulary.spelled(forced) if forced else []
        if not letters or not here.consume_tokens(letters):
            return []
        return letters

    def _allowed(self, here: LLMatcher) -> Allowed:
        """Whether each letter of the vocabulary may come next."""
        octets = np.frombuffer(here.compute_bitmask(), np.uint8)
        places, bits = self._vocabulary.letter_bits
        allowed: Allowed = (octets[places] & bits) != 0
        return allowed

    def _rest(self, here: LLMatcher, allowed: Allowed) -> Letters | None:
        """The end of the known ending that ends this text too."""
        tried = 0
        for letter in self._letters(allowed) if self._rests else ():
            for rest in self._rests.get(letter, ()):
                if tried == _MOST_RESTS:
                    return None
                tried += 1
                if leads_to_end(here, rest, self._vocabulary):
                    return rest
        return None

    def _letters(self, allowed: Allowed) -> Iterator[int]:
        letters = self._vocabulary.letters_in_order
        return (letters[place] for place in np.flatnonzero(allowed))

    def _nearest(self, allowed: Allowed) -> Iterator[int]:
        """Letters by how near the end of a JSON document they look, after what led to an end before."""
        if (habit := self._habits.get(allowed.tobytes())) is not None:
            yield habit
        ids = self._vocabulary.letter_ids
        may = set(self._letters(allowed))

        def get(byte: int) -> int | None:
            letter = ids.get(bytes([byte]))
            return letter if letter in may else None

        # In texts, what opens is allowed as well as what closes.
        closing = (get(close) for opens, close in (b"{}", b"{]", b"()") if get(opens) is None)
        for letter in dict.fromkeys((*closing, *map(get, _CLOSING + _SAMPLE), *sorted(may))):
            if letter is not None:
                yield letter

    def _some(self, allowed: Allowed) -> list[int]:
        letters = list(self._letters(allowed))
        if len(letters) <= _FEW:
            return letters
        wanted = {self._vocabulary.letter_ids.get(bytes([byte])) for byte in _SAMPLE}
        return [letter for letter in letters if letter in wanted] or letters[:_FEW]


def leads_to_end(place: LLMatcher, letters: Letters, vocabulary: Vocabulary) -> bool:
    """Whether the text may end after `letters`."""
    return place.validate_tokens([*letters, vocabulary.stop]) == len(letters) + 1


@dataclass(frozen=True)
class Ending:
    """The same text in letters and in tokens."""

    letters: Letters
    ids: list[int]


class GrammarCompletion:
    """What a grammar's texts share: the parser over letters, what is known of endings, and a short text.

    Attributes:
        shortest: the shortest text that was found; None if none was, and then no text is ended in time.
        reserve: with so many tokens left and more, nothing is checked.
    """

    def __init__(self, start: LLMatcher, vocabulary: Vocabulary, source: str) -> None:
        """`start`: the beginning of the grammar over letters."""
        self.vocabulary = vocabulary
        self.endings = EndingSearch(vocabulary)
        self.start = start
        found = self.endings.find(start, thorough=True)
        self.shortest = None if found is None else Ending(found, vocabulary.shortened(found))
        # What a single token may oblige a text to (names, constants) is written in the grammar.
        self.reserve = len(source) // 2 + len(self.shortest.ids if self.shortest else ())


class TextCompletion:
    """One text's way to its end."""

    def __init__(self, closing: GrammarCompletion) -> None:
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
        if after is None and left > _AMPLE * (len(here.ids) + 1):
            return token  # that no ending was found means little, and there is room to find one later
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
