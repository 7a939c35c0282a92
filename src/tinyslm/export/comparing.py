"""Comparing models in size, quality and speed: folders, quantized ones too, and what was exported from them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.export.checks import divergence
from tinyslm.export.subjects import DECODED, FolderSubject, Subject, kind_of, open_subject, speed

PASSAGE_TOKENS = 128
FAST_TOKENS = 8192
"""Tokens that are scored where every model scores a passage at once."""
SLOW_TOKENS = 512
"""The same where one of them takes a call for each token."""

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
    _refuse(places, texts)
    names = _names(places)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        first: FolderSubject | None = None
        source: FolderSubject | None = None
        passages: list[str] = []
        models: list[Compared] = []
        for place, name in zip(places, names, strict=True):
            progress(f"scoring {name}", 0, 0)
            with open_subject(place, source, dtype, threads) as subject:
                if isinstance(subject, FolderSubject):
                    source = subject
                assert source is not None, "an export without a folder is refused"
                if first is None:
                    first = source
                    slow = any(kind_of(other) == "gguf" for other in places)
                    passages = _passages(texts, first, tokens or (SLOW_TOKENS if slow else FAST_TOKENS))
                bits, kl = _scored(subject, source.begin, first, passages)
                base = models[0].bits_per_byte if models else bits
                models.append(_compared(name, kind_of(place), subject, passages, (bits, bits / base - 1, kl)))
    finally:
        torch.set_num_threads(before)
    assert first is not None
    return Comparison(
        tuple(models),
        len(passages),
        sum(len(first.ids(text)) for text in passages),
        sum(len(text.encode("utf-8", "replace")) for text in passages),
    )


def _compared(
    name: str, kind: str, subject: Subject, passages: Sequence[str], quality: tuple[float, float, float | None]
) -> Compared:
    """A model's row, its speed measured."""
    bits, change, kl = quality
    ids = [subject.ids(text) for text in passages]
    fresh = cycle(ids)  # a passage that was just read may be remembered

    def read() -> int:
        passage = next(fresh)
        subject.prefill(passage)
        return len(passage)

    def generating(begun: list[int]) -> float | None:
        return speed(lambda: subject.decode(begun, DECODED))

    return Compared(
        name=name,
        kind=kind,
        bytes=subject.weights.bytes,
        bits_per_weight=subject.weights.bits_per_weight,
        bits_per_byte=bits,
        change=change,
        mean_kl=kl,
        prefill=speed(read),
        decode=next(filter(None, (generating(some[:8]) for some in ids)), None),
    )


def _scored(
    subject: Subject, begin: Sequence[int], first: FolderSubject, passages: Sequence[str]
) -> tuple[float, float | None]:
    """Bits per byte over the passages, and the mean divergence from the first model where the tokens are the same.

    begin: what stands before each passage.
    """
    nats, size = 0.0, 0
    divergences: list[float] = []
    comparable = True
    for text in passages:
        ids = subject.ids(text)
        comparable = comparable and ids == first.ids(text)
        reference = first.logprobs(first.begin, ids) if comparable and subject is not first else iter(())
        for token, logprobs_v in zip(ids, subject.logprobs(begin, ids), strict=True):
            nats -= float(logprobs_v[token])
            ours_v = next(reference, None)
            if ours_v is not None:
                divergences += divergence(ours_v[None], logprobs_v[None]).tolist()
        size += len(text.encode("utf-8", "replace"))
    bits = nats / math.log(2) / size
    if subject is first:
        return bits, 0.0
    return bits, float(np.mean(divergences)) if comparable else None


def _passages(texts: Sequence[str], first: FolderSubject, tokens: int) -> list[str]:
    """Passages from all over the texts that have about so many tokens in all, and fit a context each.

    They are cut between words, so that no token spans a cut, to half of a context: another tokenizer may need more.
    """
    whole = "\n\n".join(texts)
    length = min(PASSAGE_TOKENS, first.model.config.context // 2)
    sample = whole[: 64 * length]
    characters = max(8, int(len(sample) / max(1, len(first.ids(sample))) * length))
    count = max(1, min(tokens // length, len(whole) // characters))
    starts = [(len(whole) - characters) * part // max(1, count - 1) for part in range(count)]
    return list(_cut(whole, starts, characters))


def _cut(whole: str, starts: Sequence[int], characters: int) -> Iterator[str]:
    for start in starts:
        piece = whole[max(0, start) : max(0, start) + characters]
        words = piece.split(" ")
        yield " ".join(words[1:-1]) if len(words) > 4 else piece


def _refuse(places: Sequence[Path], texts: Sequence[str]) -> None:
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
