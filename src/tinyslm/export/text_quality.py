"""How well models predict a text: bits per byte on the same passages, and the KL divergence from the first model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.protocols import Array, Runtime
from tinyslm.export.checks import divergence
from tinyslm.export.format import Source
from tinyslm.export.opening import FOLDER, examine, kind_of, read_source

PASSAGE_TOKENS = 128
FAST_TOKENS = 8192
"""Tokens to score if every model scores a passage in one pass."""
SLOW_TOKENS = 512
"""Tokens to score if a model needs one call for each token."""


@dataclass(frozen=True)
class Candidate:
    """A model to compare, before it is loaded.

    max_length: its context in tokens. sources: the folder itself; for an export, the preceding folders that it may have
    been made from, nearest last.
    """

    place: Path
    kind: str
    max_length: int
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class TextQuality:
    """How well a model predicts the text. See `ComparedModel`."""

    bits_per_byte: float
    change: float
    mean_kl: float | None


class TextComparison:
    """Passages that every model scores, and the first model, which is the reference for the others.

    Attributes: `passages`; `tokens`, `utf8_bytes`: their size, in the first model's tokens and in bytes.
    """

    def __init__(self, places: Sequence[Path], texts: Sequence[str], tokens: int | None) -> None:
        """tokens: see `compare_models`. Raises `TinyslmError` if no model folder precedes an export."""
        self._candidates = {candidate.place: candidate for candidate in _candidates(places, _sources(places))}
        candidates = list(self._candidates.values())
        slow = any(candidate.kind == "gguf" for candidate in candidates)
        self.passages = _passages(texts, candidates, tokens or (SLOW_TOKENS if slow else FAST_TOKENS))
        self._source = candidates[0].sources[-1]
        self._first: Runtime | None = None
        self._bits = math.nan
        self.tokens = sum(len(self._source.tokenizer.encode(text)) for text in self.passages)
        self.utf8_bytes = sum(len(text.encode("utf-8", "replace")) for text in self.passages)

    def parameters(self, place: Path) -> int:
        """The number of parameters of the model at a path."""
        return self._candidates[place].sources[-1].config.parameters

    def measure(self, place: Path, runtime: Runtime) -> TextQuality:
        """Score the passages. Measure the models in the order in which they were given.

        Raises `TinyslmError` for an export that was not made from a preceding folder.
        """
        candidate = self._candidates[place]
        self._first = self._first or runtime
        source = _source_of(candidate, runtime, self.passages)
        alike = source.vocabulary == self._source.vocabulary
        bits, kl = _scored(runtime, source, (self._first, self._source) if alike else None, self.passages)
        if math.isnan(self._bits):
            self._bits = bits
        return TextQuality(bits, bits / self._bits - 1, kl)


def _sources(places: Sequence[Path]) -> dict[Path, Source]:
    """The model folders. Raises `TinyslmError` if none precedes an export."""
    sources: dict[Path, Source] = {}
    for place in places:
        if kind_of(place) == FOLDER:
            sources[place] = read_source(place)
        elif not sources:
            raise TinyslmError(
                f"{place} is an export, but no model folder precedes it.",
                "Put the model folder that it was made from before it (or make one: tinyslm import FILE.gguf --out "
                "MODEL).",
            )
    return sources


def _candidates(places: Sequence[Path], sources: Mapping[Path, Source]) -> list[Candidate]:
    """The models to compare, with what their configurations say about them."""
    found: list[Candidate] = []
    before: list[Source] = []
    for place in places:
        kind = kind_of(place)
        if kind == FOLDER:
            before.append(sources[place])
            found.append(Candidate(place, kind, sources[place].config.longest, (sources[place],)))
            continue
        stored = examine(place, kind)
        fitting = tuple(source for source in before if source.config.vocab_size == stored.vocab_size)
        if not fitting:
            raise _not_made_from(
                place, f"its vocabulary has {stored.vocab_size:,} tokens, and no folder's vocabulary has this size"
            )
        found.append(Candidate(place, kind, stored.context, fitting))
    return found


def _source_of(candidate: Candidate, runtime: Runtime, passages: Sequence[str]) -> Source:
    """The folder that an export was made from: the nearest one whose tokenizer gives the most equal passages."""
    if candidate.kind == FOLDER:
        return candidate.sources[-1]
    ids = [runtime.encode(text) for text in passages]
    equal = [sum(source.tokenizer.encode(text) == its for text, its in zip(passages, ids, strict=True))
             for source in candidate.sources]  # fmt: skip
    if not max(equal):
        raise _not_made_from(candidate.place, "it tokenizes every passage of the text differently")
    return max(zip(equal, range(len(equal)), candidate.sources, strict=True), key=lambda row: row[:2])[2]


def _not_made_from(place: Path, why: str) -> TinyslmError:
    return TinyslmError(
        f"{place} was not made from a model folder that precedes it: {why}.",
        "Put the model folder that it was made from before it.",
    )


def _scored(
    runtime: Runtime, source: Source, first: tuple[Runtime, Source] | None, passages: Sequence[str]
) -> tuple[float, float | None]:
    """Bits per byte over the passages, and the mean KL divergence from the first model if the tokens are the same.

    source: provides the prefix of each passage. first: the first model, or `None` if its vocabulary differs.
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
    """Log-probabilities over the vocabulary at the position of each of `ids`, fp32 `[t, vocab_size]`."""
    read = [*source.begin, *ids[:-1]]
    return runtime.logprobs(read, range(len(source.begin) - 1, len(read)))


def _passages(texts: Sequence[str], candidates: Sequence[Candidate], tokens: int) -> list[str]:
    """Passages spread evenly over the texts, of about `tokens` tokens of the first model in total.

    Passages are cut between words, so that no token spans a cut, to about half of the shortest context, because some
    texts need more tokens than others. Passages that still do not fit every model are cut further.
    """
    whole = "\n\n".join(texts)
    sample = whole[: 64 * PASSAGE_TOKENS]
    sizes = [len(sample) / max(1, len(candidate.sources[-1].tokenizer.encode(sample))) for candidate in candidates]
    lengths = [min(PASSAGE_TOKENS, candidate.max_length // 2) for candidate in candidates]
    characters = max(8, int(min(size * length for size, length in zip(sizes, lengths, strict=True))))
    count = max(1, min(int(tokens * sizes[0] / characters), len(whole) // characters))
    starts = [(len(whole) - characters) * part // max(1, count - 1) for part in range(count)]
    cut = (_fitting(text, candidates) for text in _cut(whole, starts, characters))
    passages = [text for text in cut if text]
    if not passages:
        shortest = min(candidates, key=lambda candidate: candidate.max_length)
        raise TinyslmError(
            f"{shortest.place} has a context of only {shortest.max_length} tokens, too few to compare it.",
            "Leave it out.",
        )
    return passages


def _fitting(text: str, candidates: Sequence[Candidate]) -> str:
    """The beginning of a passage that, with its prefix, fits every model; "" if none does."""
    by_length = sorted(candidates, key=lambda candidate: -candidate.max_length)
    needs = {id(source): (source, one.max_length) for one in by_length for source in one.sources}.values()
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
