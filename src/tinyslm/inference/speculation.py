"""Guessing the next tokens, so that one step of the model can check several.

A guess never changes the text: at each guessed place the next token is drawn as ever, and only while it is the guessed
one does the next place count. So the draws, and with them the seed's text, are those without guesses.
"""

from collections.abc import Sequence
from typing import Protocol


class Guesser(Protocol):
    """One sequence's guesses."""

    def guess(self, tokens: Sequence[int], most: int) -> list[int]:
        """Up to `most` tokens that may follow; none where nothing is likely enough."""

    def learn(self, guessed: int, accepted: int) -> None:
        """So many of the last guesses were right."""


class LookUp:
    """Prompt look-up: where the last tokens stood before, what followed them may follow again (Saxena, 2023).

    It guesses more after right guesses and fewer after wrong ones, so that text without repetitions costs little.
    """

    def __init__(self, longest: int = 8, pattern: int = 3) -> None:
        self._longest, self._pattern = longest, pattern
        self._length = min(4, longest)
        self._places: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._rest = 0

    def guess(self, tokens: Sequence[int], most: int) -> list[int]:
        """What followed the last tokens where they stood last before."""
        self._index(tokens)
        if self._rest:
            self._rest -= 1
            return []
        place = self._places.get(tuple(tokens[-self._pattern :]))
        if place is None or len(tokens) < self._pattern:
            return []
        return list(tokens[place : place + min(self._length, most)])

    def learn(self, guessed: int, accepted: int) -> None:
        """Guess twice as many after a full success, half as many after a failure, and pause after several."""
        if accepted == guessed:
            self._length = min(self._longest, 2 * self._length)
        elif accepted == 0:
            self._length = max(1, self._length // 2)
            self._rest = 2 if self._length > 1 else 8

    def _index(self, tokens: Sequence[int]) -> None:
        """Note where each pattern was last seen to end, but for the one at the very end."""
        if len(tokens) < self._indexed:  # another text than before
            self._places.clear()
            self._indexed = 0
        for stop in range(max(self._pattern, self._indexed), len(tokens)):
            self._places[tuple(tokens[stop - self._pattern : stop])] = stop
        self._indexed = max(self._indexed, len(tokens))
