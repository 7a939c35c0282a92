"""Comparing models in size, quality and speed: folders, quantized ones too, and what was exported from them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.protocols import Array, Runtime, greedy
from tinyslm.evaluation.speed import tokens_per_second
from tinyslm.export.checks import divergence
from tinyslm.export.format import Source
from tinyslm.export.opening import kind_of, limits_of, open_runtime, read_source, weights_of

PASSAGE_TOKENS = 128
FAST_TOKENS = 8192
"""Tokens that are scored where every model scores a passage at once."""
SLOW_TOKENS = 512
"""The same where one of them takes a call for each token."""
DECODED = 32
"""Tokens that are generated to measure how fast that goes."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Compared:
    """One model's figures.

    bytes: of its weights. bits_per_weight: over all weights. bits_per_byte: on the text. change: of that, as a share,
    against the first model. mean_kl: nats, of the first model from this one, where both read the text as the same
    tokens. prefill and decode: tokens per second, reading and generating.
    """

    name: str
    kind: str
    bytes: int
    bits_per_weight: float | None
    bits_per_byte: float
    change: float
    mean_kl: float | None
    prefill: float | None
    decode: float | None


@dataclass(frozen=True)
class Comparison:
    """All models' figures, on the same passages; `tokens`: how many these are in the first model's tokens."""

    models: tuple[Compared, ...]
    passages: int
    tokens: int
    utf8_bytes: int


def compare_models(
    paths: Sequence[str | Path],
    texts: Sequence[str],
    *,
    dtype: torch.dtype = torch.float32,
    tokens: int | None = None,
    threads: int = 1,
    progress: Progress = lambda *_: None,
) -> Comparison:
    """Compare model folders, run folders, GGUF files and ONNX folders on text that none of them was trained on.

    An export comes after the model folder that it was made from. All score the same passages, from all over the texts:
    about `tokens` tokens, by default 8,192, or 512 where a runtime must be called for each. dtype: what folders compute
    in.

    Raises `TinyslmError` for paths that hold no model, and where there is no text.
    """
    places = [Path(path) for path in paths]
    _check(places, texts)
    names = _names(places)
    sources = _sources(places)
    entrants = _entrants(places, sources)
    slow = any(entrant.kind == "gguf" for entrant in entrants)
    passages = _passages(texts, entrants, tokens or (SLOW_TOKENS if slow else FAST_TOKENS))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        models: list[Compared] = []
        first: Runtime | None = None
        for entrant, name in zip(entrants, names, strict=True):
            progress(f"scoring {name}", 0, 0)
            with open_runtime(entrant.place, entrant.sources[-1], dtype, threads) as runtime:
                first = first or runtime
                source = _source_of(entrant, runtime, passages)
                alike = source.vocabulary == entrants[0].sources[-1].vocabulary
                bits, kl = _scored(runtime, source, (first, entrants[0].sources[-1]) if alike else None, passages)
                base = models[0].bits_per_byte if models else bits
                models.append(_compared(name, entrant, runtime, passages, (bits, bits / base - 1, kl)))
    finally:
        torch.set_num_threads(before)
    return Comparison(
        tuple(models),
        len(passages),
        sum(len(entrants[0].sources[-1].tokenizer.encode(text)) for text in passages),
        sum(len(text.encode("utf-8", "replace")) for text in passages),
    )


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


def _compared(
    name: str, entrant: Entrant, runtime: Runtime, passages: Sequence[str], quality: tuple[float, float, float | None]
) -> Compared:
    """A model's row, its speed measured."""
    bits, change, kl = quality
    weights = weights_of(entrant.place, entrant.sources[-1])
    ids = [runtime.encode(text) for text in passages]
    fresh = cycle(ids)  # a passage that was just read may be remembered

    def read() -> int:
        passage = next(fresh)
        greedy(runtime, passage, 1)
        return len(passage)

    def generating(begun: list[int]) -> float | None:
        return tokens_per_second(lambda: len(greedy(runtime, begun, max(1, min(DECODED, entrant.room - len(begun))))))

    return Compared(
        name=name,
        kind=entrant.kind,
        bytes=weights.bytes,
        bits_per_weight=weights.bits_per_weight,
        bits_per_byte=bits,
        change=change,
        mean_kl=kl,
        prefill=tokens_per_second(read),
        decode=next(filter(None, (generating(some[: min(8, entrant.room // 2)]) for some in ids)), None),
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


def _check(places: Sequence[Path], texts: Sequence[str]) -> None:
    if not places:
        raise TinyslmError("Nothing to compare was given.", "For instance: tinyslm compare MODEL MODEL2 --text FILE")
    for place in places:
        kind_of(place)
    if not any(text.strip() for text in texts):
        raise TinyslmError(
            "No text to compare the models on was given.",
            "Give text that none of them was trained on, such as a run's validation text: --text FILE",
        )


def _names(places: Sequence[Path]) -> list[str]:
    """What each is called: its own name, that of the run for a run's `model` folder; whole paths where these meet."""
    whole = [place.resolve() for place in places]
    short = [path.parent.name if path.name == "model" else path.name for path in whole]
    return short if len(set(short)) == len(short) else [str(place) for place in places]
