"""Compare tokenizers on a text: how they cut it, what they lose, how fast they are, and what they cost a model."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.quantities import count
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Notify, Progress, silent
from tinyslm.data.text_kinds import KINDS, TextKind, paragraphs, text_kind
from tinyslm.inspection.tokenizer_text import Sample, given_tokenizer, is_kind, read_sample, settings_of
from tinyslm.model.sizing import shape_of, table_parameters
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.tokenizer.losses import Losses, losses
from tinyslm.tokenizer.shown import Token, show_token
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_as

PARAMETERS = 10_000_000
MOST_TOKENIZERS = 20
SAMPLES = {
    "sentence": "The unhappy children weren't afraid of thunderstorms any longer.",
    "formula": '=IF(SUM(B2:B13)>1250.75,"over","under")',
    "date": "2026-03-14 09:26:53",
}
"""Texts that every comparison shows cut into pieces."""
LONGEST_SAMPLE = 400  # characters
LEAST = 200  # bytes: kinds of text with fewer are not measured
_WORD = re.compile(r"[^\W\d_][\w'’]{0,39}")
_CONTEXT = "a"
"""A word is encoded after this one, as inside a text: the token of a space may belong to it."""


@dataclass(frozen=True)
class Cut:
    """A sample text cut into tokens. name: what it is, such as "date"."""

    name: str
    text: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class TokenizerReport:
    """What was measured of one tokenizer.

    bytes_per_token: over the whole text; by_kind: by kind of text. tokens_per_word: mean over the words of the text
    (fertility); whole_words: the share of them that are one token. unused: how many ordinary tokens the text never
    used, of `ordinary`. embedding_share: of the parameters of a model of the size asked for, with `dim` and `depth`;
    `None` if no model of that size has such a vocabulary. documents: parts of the text; lost: what decoding did not
    restore of them. specials: how many ids of special tokens came from ordinary text.
    """

    name: str
    kind: str
    trained: bool
    vocab_size: int
    tokens: int
    bytes_per_token: float
    by_kind: Mapping[TextKind, float]
    tokens_per_word: float
    whole_words: float
    ordinary: int
    unused: int
    embedding_share: float | None
    dim: int | None
    depth: int | None
    encode_mb_per_s: float
    decode_mb_per_s: float
    documents: int
    lost: Losses
    specials: int
    cuts: tuple[Cut, ...]


@dataclass(frozen=True)
class TokenizerComparison:
    """Reports of tokenizers on one text.

    utf8_bytes: of the measured text, by_kind: of each kind of text in it; words: how many; train_bytes: of the text
    that tokenizers were trained on; parameters: of the model whose embeddings are counted.
    """

    paths: tuple[str, ...]
    parameters: int
    utf8_bytes: int
    by_kind: Mapping[TextKind, int]
    words: int
    train_bytes: int
    reports: tuple[TokenizerReport, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, as a JSON value; tokens of samples as their texts."""
        value = asdict(self)
        for report in value["reports"]:
            for cut in report["cuts"]:
                cut["tokens"] = [token["text"] for token in cut["tokens"]]
        return value


@dataclass(frozen=True)
class _Text:
    """The text that is measured: whole, its paragraphs by kind, its words."""

    documents: Sequence[str]
    by_kind: Mapping[TextKind, Sequence[str]]
    words: Counter[str]


def compare_tokenizers(
    paths: Sequence[str],
    tokenizers: Sequence[str | Path | Tokenizer],
    *,
    parameters: int = PARAMETERS,
    samples: Sequence[str] = (),
    config: DataConfig | None = None,
    notify: Notify = silent,
    progress: Progress = silent,
) -> TokenizerComparison:
    """Measure tokenizers on the text in `paths` (or on a sample of it, of at most 2 MB).

    tokenizers: folders of tokenizers or models; "KIND" or "KIND:SIZE", also with settings as in "bpe:4096,digits=one",
    for one that is trained here, on a part of the text that is not measured; or tokenizers. parameters: of the model
    whose share of embeddings is computed. samples: further texts to show cut into pieces.

    Raises `TinyslmError` when a path or a tokenizer cannot be used, or there is too little text.
    """
    _check(tokenizers, parameters, samples)
    given = [settings_of(str(one)) if _to_train(one) else given_tokenizer(one) for one in tokenizers]
    apart = any(isinstance(one, TokenizerConfig) for one in given)
    progress("reading the text", 0, 0)
    sample = read_sample(paths, config or DataConfig(), apart=apart, notify=notify)
    text = _Text(sample.measured, _by_kind(sample), _words(sample))
    shown = {**SAMPLES, **{f"sample {number}": one for number, one in enumerate(samples, 1)}}
    reports = []
    for name, one in zip(_names(tokenizers), given, strict=True):
        progress(name, 0, 0)
        trained = isinstance(one, TokenizerConfig)
        tokenizer = train_as(one, sample.train) if isinstance(one, TokenizerConfig) else one
        reports.append(_report(name, tokenizer, text, parameters, shown, trained=trained))
    return TokenizerComparison(
        tuple(paths),
        parameters,
        sum(map(_size, sample.measured)),
        {kind: sum(map(_size, parts)) for kind, parts in text.by_kind.items()},
        text.words.total(),
        sum(map(_size, sample.train)),
        tuple(reports),
    )


def _to_train(one: str | Path | Tokenizer) -> bool:
    return isinstance(one, str) and is_kind(one)


def _check(tokenizers: Sequence[str | Path | Tokenizer], parameters: int, samples: Sequence[str]) -> None:
    if not tokenizers:
        raise TinyslmError(
            "No tokenizer was given.", "Name tokenizer or model folders, or kinds to train here: bpe:4096 byte"
        )
    if len(tokenizers) > MOST_TOKENIZERS:
        raise TinyslmError(f"{len(tokenizers)} tokenizers are too many.", f"Give at most {MOST_TOKENIZERS}.")
    if parameters < 1:
        raise TinyslmError(f"A model has no {parameters} parameters.", "Give --params a size such as 10M.")
    for text in samples:
        if not text or len(text) > LONGEST_SAMPLE:
            raise TinyslmError(
                f"A sample has {len(text):,} characters.", f"Give one of 1 to {LONGEST_SAMPLE} characters."
            )


def _names(tokenizers: Sequence[str | Path | Tokenizer]) -> list[str]:
    """A different name for each: as given, without the slash at its end."""
    names: list[str] = []
    for one in tokenizers:
        name = f"{one.kind}, {one.vocab_size:,} tokens" if isinstance(one, Tokenizer) else str(one).rstrip("/") or "/"
        again = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({again + 1})" if again else name)
    return names


def _by_kind(sample: Sample) -> dict[TextKind, list[str]]:
    found: dict[TextKind, list[str]] = {}
    for document in sample.measured:
        for part in paragraphs(document):
            found.setdefault(text_kind(part), []).append(part)
    return {kind: found[kind] for kind in KINDS if sum(map(_size, found.get(kind, ()))) >= LEAST}


def _words(sample: Sample) -> Counter[str]:
    counts: Counter[str] = Counter()
    for document in sample.measured:
        counts.update(_WORD.findall(document))
    return counts


def _report(
    name: str, tokenizer: Tokenizer, text: _Text, parameters: int, samples: Mapping[str, str], *, trained: bool
) -> TokenizerReport:
    begun = time.perf_counter()
    encoded = tokenizer.encode_batch(text.documents)
    encoding = time.perf_counter() - begun
    begun = time.perf_counter()
    for ids in encoded:
        tokenizer.decode(ids)
    decoding = time.perf_counter() - begun
    used = set().union(*encoded)
    special = set(tokenizer.special_ids.values())
    ordinary = {token for token in range(tokenizer.vocab_size) if tokenizer.token_bytes(token)} - special
    size, tokens = sum(map(_size, text.documents)), sum(map(len, encoded))
    by_kind = {
        kind: sum(map(_size, parts)) / max(1, sum(map(len, tokenizer.encode_batch(parts))))
        for kind, parts in text.by_kind.items()
    }
    per_word, whole = _fertility(tokenizer, text.words)
    shape = shape_of(parameters, tokenizer.vocab_size)
    return TokenizerReport(
        name=name,
        kind=tokenizer.kind,
        trained=trained,
        vocab_size=tokenizer.vocab_size,
        tokens=tokens,
        bytes_per_token=size / max(1, tokens),
        by_kind=by_kind,
        tokens_per_word=per_word,
        whole_words=whole,
        ordinary=len(ordinary),
        unused=len(ordinary - used),
        embedding_share=None if shape is None else table_parameters(shape) / shape.parameters,
        dim=None if shape is None else shape.dim,
        depth=None if shape is None else shape.depth,
        encode_mb_per_s=size / 1e6 / max(encoding, 1e-9),
        decode_mb_per_s=size / 1e6 / max(decoding, 1e-9),
        documents=len(text.documents),
        lost=losses(tokenizer, zip(text.documents, encoded, strict=True)),
        specials=sum(len(special.intersection(ids)) for ids in encoded),
        cuts=tuple(_cut(tokenizer, what, sample) for what, sample in samples.items()),
    )


def _fertility(tokenizer: Tokenizer, words: Counter[str]) -> tuple[float, float]:
    """Tokens per word, and the share of words that are one token; both 0 for a text without words."""
    if not words:
        return 0.0, 0.0
    alone = len(tokenizer.encode(_CONTEXT))
    tokens = whole = 0
    for word, times in words.items():
        length = max(1, len(tokenizer.encode(f"{_CONTEXT} {word}")) - alone)
        tokens += times * length
        whole += times * (length == 1)
    return tokens / words.total(), whole / words.total()


def _cut(tokenizer: Tokenizer, name: str, text: str) -> Cut:
    return Cut(name, text, tuple(show_token(tokenizer, token) for token in tokenizer.encode(text)))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def described(comparison: TokenizerComparison) -> str:
    """What was measured, in a sentence or two."""
    from tinyslm.core.quantities import size

    kinds = ", ".join(f"{size(number)} {kind}" for kind, number in comparison.by_kind.items())
    said = f"Measured on {size(comparison.utf8_bytes)} of text ({kinds}), {comparison.words:,} words."
    if comparison.train_bytes:
        said += f" Kinds were trained on {size(comparison.train_bytes)} of other text of the same sources."
    return f"{said} Embeddings: share of the parameters of a model of {count(comparison.parameters)}."
