"""Ending a text at stop strings while it streams."""

from collections.abc import Sequence


class StopStrings:
    """Lets text through up to the first stop string, holding back what may turn out to be the start of one.

    The first is the one that is complete first (of several, the longest), however the text comes in pieces.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [text for text in stop if text]
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """The text that is certain to come before any stop string; sets `found` when one is complete."""
        if self.found:
            return ""
        self._held += text
        found = [(place + len(stop), place) for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if found:
            self.found = True
            return self._held[: min(found)[1]]
        keep = max((self._overlap(stop) for stop in self._stop), default=0)
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain

    def flush(self) -> str:
        """What was held back, at the end of a text in which no stop string came."""
        rest, self._held = ("" if self.found else self._held), ""
        return rest

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if self._held.endswith(stop[:size])), 0)
