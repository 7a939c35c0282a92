"""How well models predict one text: bits per byte on the same passages, and how far they are from the first model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.protocols import Array, Runtime
from tinyslm.export.checks import divergence
from tinyslm.export.format import Source
from tinyslm.export.opening import kind_of, limits_of, read_source

PASSAGE_TOKENS = 128
FAST_TOKENS = 8192
"""Tokens that are scored where every model scores a passage at once."""
SLOW_TOKENS = 512
"""The same where one of them takes a call for each token."""


@dataclass(frozen=True)
class Entrant:
    """What is to be compared, before it is loaded.

    room: the tokens that it reads. sources: the folder itself; or the folders before an export that it can have been
    made from, nearest last.
    """

    place: Path
    kind: str
    room: int
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class TextQuality:
    """bits_per_byte: on the text. change: of that, as a share, against the first model. mean_kl: see `Compared`."""

    bits_per_byte: float
    change: float
    mean_kl: float | None


class TextComparison:
    """Passages that every model scores, and the first model, which the others are measured against.

    Attributes: `passages`; `tokens`: how many these are in the first model's tokens; `utf8_bytes`.
    """

    def __init__(self, places: Sequence[Path], texts: Sequence[str], tokens: int | None) -> None:
        """tokens: see `compare_models`. Raises `TinyslmError` where an export has no model folder before it."""
        self._entrants = {entrant.place: entrant for entrant in _entrants(places, _sources(places))}
        entrants = list(self._entrants.values())
        slow = any(entrant.kind == "gguf" for entrant in entrants)
        self.passages = _passages(texts, entrants, tokens or (SLOW_TOKENS if slow else FAST_TOKENS))
        self._source = entrants[0].sources[-1]
        self._first: Runtime | None = None
        self._bits = math.nan
        self.tokens = sum(len(self._source.tokenizer.encode(text)) for text in self.passages)
        self.utf8_bytes = sum(len(text.encode("utf-8", "replace")) for text in self.passages)

    def parameters(self, place: Path) -> int:
        """How many weights the model at a place has."""
        return self._entrants[place].sources[-1].config.parameters

    def measure(self, place: Path, runtime: Runtime) -> TextQuality:
        """Score the passages; models come in the order in which they were given.

        Raises `TinyslmError` for an export that was not made from a folder before it.
        """
        entrant = self._entrants[place]
        self._first = self._first or runtime
        source = _source_of(entrant, runtime, self.passages)
        alike = source.vocabulary == self._source.vocabulary
        bits, kl = _scored(runtime, source, (self._first, self._source) if alike else None, self.passages)
        if math.isnan(self._bits):
            self._bits = bits
        return TextQuality(bits, bits / self._bits - 1, kl)


def _sources(places: Sequence[Path]) -> dict[Path, Source]:
    """The model folders; an export must have one before it."""
    sources: dict[Path, Source] = {}
    for place in places:
        if kind_of(place) == "folder":
            sources[place] = read_source(place)
        elif not sources:
            raise TinyslmError(
                f"{place} is an export, and no model folder stands before it.",
                "Give the model folder that it was made from first (or make one: tinyslm import FILE.gguf --out "
                "MODEL).",
            )
    return sources


def _entrants(places: Sequence[Path], sources: Mapping[Path, Source]) -> list[Entrant]:
    """Each place with what is known of it from its configuration."""
    found: list[Entrant] = []
    before: list[Source] = []
    for place in places:
        kind = kind_of(place)
        if kind == "folder":
            before.append(sources[place])
            found.append(Entrant(place, kind, sources[place].config.longest, (sources[place],)))
            continue
        limits = limits_of(place, kind)
        fitting = tuple(source for source in before if source.config.vocab_size == limits.vocab_size)
        if not fitting:
            raise _not_made_from(place, f"it has {limits.vocab_size:,} tokens, and they have others")
        found.append(Entrant(place, kind, limits.context, fitting))
    return found


def _source_of(entrant: Entrant, runtime: Runtime, passages: Sequence[str]) -> Source:
    """Of the folders that an export can be of, the nearest whose tokenizer reads text as the export does."""
    if entrant.kind == "folder":
        return entrant.sources[-1]
    ids = [runtime.encode(text) for text in passages]
    equal = [sum(source.tokenizer.encode(text) == its for text, its in zip(passages, ids, strict=True))
             for source in entrant.sources]  # fmt: skip
    if not max(equal):
        raise _not_made_from(entrant.place, "it reads no passage of the text as the same tokens")
    return max(zip(equal, range(len(equal)), entrant.sources, strict=True), key=lambda row: row[:2])[2]


def _not_made_from(place: Path, why: str) -> TinyslmError:
    return TinyslmError(
        f"{place} was not made from a model folder that stands before it: {why}.",
        "Give the model folder that it was made from, before it.",
    )


def _scored(
    runtime: Runtime, source: Source, first: tuple[Runtime, Source] | None, passages: Sequence[str]
) -> tuple[float, float | None]:
    """Bits per byte over the passages, and the mean divergence from the first model where the tokens are the same.

    source: says what stands before each passage. first: where it has the same vocabulary.
    """
    nats, size = 0.0, 0
    divergences: list[float] = []
    comparable = first is not None
    for text in passages:
        ids = runtime.encode(text)
        logprobs_tv = _logprobs(runtime, source, ids)
        nats -= float(logprobs_tv[np.arange(len(ids)), ids].sum())
        if first is not None and runtime is not first[0]:
            comparable = comparable and ids == first[0].encode(text)
            if comparable:
                divergences += divergence(_logprobs(*first, ids), logprobs_tv).tolist()
        size += len(text.encode("utf-8", "replace"))
    bits = nats / math.log(2) / size
    if first is not None and runtime is first[0]:
        return bits, 0.0
    return bits, float(np.mean(divergences)) if comparable else None


def _logprobs(runtime: Runtime, source: Source, ids: Sequence[int]) -> Array:
    """Log-probabilities before each of `ids`, fp32 `[t, vocab_size]`."""
    read = [*source.begin, *ids[:-1]]
    return runtime.logprobs(read, range(len(source.begin) - 1, len(read)))


def _passages(texts: Sequence[str], entrants: Sequence[Entrant], tokens: int) -> list[str]:
    """Passages from all over the texts that have about so many of the first model's tokens in all.

    They are cut between words, so that no token spans a cut, to about half of the shortest context: some texts take
    more tokens than others. What still does not fit every model is cut further.
    """
    whole = "\n\n".join(texts)
    sample = whole[: 64 * PASSAGE_TOKENS]
    sizes = [len(sample) / max(1, len(entrant.sources[-1].tokenizer.encode(sample))) for entrant in entrants]
    lengths = [min(PASSAGE_TOKENS, entrant.room // 2) for entrant in entrants]
    characters = max(8, int(min(size * length for size, length in zip(sizes, lengths, strict=True))))
    count = max(1, min(int(tokens * sizes[0] / characters), len(whole) // characters))
    starts = [(len(whole) - characters) * part // max(1, count - 1) for part in range(count)]
    cut = (_fitting(text, entrants) for text in _cut(whole, starts, characters))
    passages = [text for text in cut if text]
    if not passages:
        shortest = min(entrants, key=lambda entrant: entrant.room)
        raise TinyslmError(
            f"{shortest.place} reads only {shortest.room} tokens, too few to compare it.", "Leave it out."
        )
    return passages


def _fitting(text: str, entrants: Sequence[Entrant]) -> str:
    """The beginning of a passage that fits every model, with what stands before it; "" where there is none."""
    needs = {id(source): (source, entrant.room) for entrant in sorted(entrants, key=lambda one: -one.room)
             for source in entrant.sources}.values()  # fmt: skip
    while text:
        excess = max((len(source.begin) + len(source.tokenizer.encode(text))) / max(1, room) for source, room in needs)
        if excess <= 1:
            break
        shorter = text[: min(len(text) - 1, int(len(text) / excess))]
        text = shorter.rpartition(" ")[0] or shorter
    return text


def _cut(whole: str, starts: Sequence[int], characters: int) -> Iterator[str]:
    for start in starts:
        piece = whole[max(0, start) : max(0, start) + characters]
        words = piece.split(" ")
        yield " ".join(words[1:-1]) if len(words) > 4 else piece
