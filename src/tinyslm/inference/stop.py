"""Ending a text at stop strings while it streams."""

from collections.abc import Sequence
from functools import lru_cache

MOST_STOPS = 16
LONGEST_STOP = 256  # characters


class StopStrings:
    """Lets text through up to the first stop string, holding back what may turn out to be the start of one.

    The first is the one that is complete first (of several, the longest), however the text comes in pieces.
    Each character takes an amortized constant number of steps, and fewer characters are held back than the longest
    stop string has.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._automaton = _automaton(tuple(text for text in stop if text))
        self._state = 0
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """The text that is certain to come before any stop string; sets `found` when one is complete."""
        if self.found:
            return ""
        automaton, state = self._automaton, self._state
        held = self._held + text
        for place, character in enumerate(text, start=len(self._held) + 1):
            state = automaton.step(state, character)
            if length := automaton.complete[state]:
                self.found = True
                return held[: place - length]
        self._state = state
        certain = len(held) - automaton.depth[state]
        self._held = held[certain:]
        return held[:certain]

    def flush(self) -> str:
        """What was held back, at the end of a text in which no stop string came."""
        rest, self._held = ("" if self.found else self._held), ""
        return rest


class _Automaton:
    """All stop strings in one automaton (Aho and Corasick, 1975).

    A state is the longest suffix of the text so far that is a prefix of a stop string; state 0 is the empty one.
    depth: characters of each state. complete: characters of the longest stop string that ends there, or 0.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._shorter = [0]
        self.depth = [0]
        self.complete = [0]
        for stop in stops:
            self._add(stop)
        waiting = list(self._next[0].values())
        for state in waiting:  # shorter states come first
            for character, following in self._next[state].items():
                self._shorter[following] = shorter = self.step(self._shorter[state], character)
                self.complete[following] = self.complete[following] or self.complete[shorter]
                waiting.append(following)

    def step(self, state: int, character: str) -> int:
        """The state after one more character."""
        while character not in self._next[state]:
            if not state:
                return 0
            state = self._shorter[state]
        return self._next[state][character]

    def _add(self, stop: str) -> None:
        state = 0
        for character in stop:
            if character not in self._next[state]:
                self._next[state][character] = len(self._next)
                self._next.append({})
                self._shorter.append(0)
                self.depth.append(self.depth[state] + 1)
                self.complete.append(0)
            state = self._next[state][character]
        self.complete[state] = self.depth[state]


@lru_cache(maxsize=256)
def _automaton(stops: tuple[str, ...]) -> _Automaton:
    """The automaton of some stop strings, shared by all samples that end at these."""
    return _Automaton(stops)
