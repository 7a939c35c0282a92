"""Survey a text for planning: its size, its unique size, and its difficulty.

Samples consist of whole documents, spread evenly over the text.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field

from tinyslm.core.config import Section
from tinyslm.core.errors import TinyslmError
from tinyslm.data.config import DataConfig
from tinyslm.data.corpus import Corpus, Flags
from tinyslm.data.documents import Notify, Progress, silent
from tinyslm.data.shards import Shards
from tinyslm.data.split import Split, split_text
from tinyslm.data.text import Inputs, Text, reading
from tinyslm.planning.compressibility import SAMPLE, context_bits, xz_bits
from tinyslm.planning.probe import probe
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_as, train_tokenizers
from tinyslm.tokenizer.vocabulary import SMALLEST as BYTE_VOCABULARY
from tinyslm.training.validation import spread_documents

VOCABULARIES = (1024, 2048, 4096, 8192, 16384)
BYTES_FOR_A_TOKEN = 1000
"""Minimum bytes of text per token of a vocabulary: with less, a model hardly learns the rarer tokens."""
TOKENIZER_SAMPLE = 1_500_000
"""Bytes of the sample for trial tokenizers, which are trained on most of it and encode the rest."""
ENCODED_EVERY = 20
TRIAL_PIECE = 2_000
"""Bytes of the pieces of that sample: short, so that the encoded ones are from many places."""
LONG_PIECE = 8_000
"""Bytes of the pieces into which a few long documents are cut for the sample."""
FEW_DOCUMENTS = 50


class Survey(Section):
    """Measurements of a text for the planner."""

    bytes: int = Field(gt=0, description="UTF-8 bytes of the text.")
    unique_bytes: int = Field(gt=0, description="Bytes without repeated documents.")
    training_bytes: int = Field(gt=0, description="Unique bytes to train on.")
    held_out_bytes: int = Field(ge=0, description="Unique bytes to validate on.")
    documents: int = Field(gt=0, description="Unique documents.")
    xz_bits: float = Field(gt=0, description="Bits per byte of a sample compressed by xz.")
    context_bits: float = Field(gt=0, description="Bits per byte of documents predicted from short contexts in others.")
    probe_bits: float = Field(
        gt=0, description="Bits per byte of held-out text, for a tiny model trained on a sample for a moment."
    )
    probed_bytes: int = Field(gt=0, description="Bytes of that sample.")
    probing_seconds: float = Field(ge=0, description="Duration of that training and scoring in seconds.")
    seconds: float = Field(
        ge=0, description="Duration of the survey in seconds; preparing takes about as long (0: already prepared)."
    )
    bytes_per_token: dict[int, float] = Field(
        description="Bytes per token, including end tokens, for each vocabulary that the text supports."
    )
    held_out_bytes_per_token: dict[int, float] = Field(
        default_factory=dict,
        description="The same for held-out text, if it is the end of the text, which may be of another kind.",
    )

    def bytes_in_token(self, vocab_size: int, *, held_out: bool = False) -> float:
        """Bytes per token; interpolated, or that of the nearest size, for vocabularies that were not measured."""
        measured = (held_out and self.held_out_bytes_per_token) or self.bytes_per_token
        sizes = sorted(measured)
        return float(np.interp(math.log(vocab_size), np.log(sizes), [measured[size] for size in sizes]))


def survey_shards(shards: Shards) -> Survey:
    """Survey the text of shards; only the vocabulary of their tokenizer is possible."""
    train, valid = shards.split("train"), shards.split("valid")
    tokens = max(1, int(SAMPLE * train.tokens / max(1, train.utf8_bytes)))
    sample, held_out = (
        [shards.tokenizer.decode_bytes(ids) for ids, _ in spread_documents(split, tokens)] for split in (train, valid)
    )
    read = sum(source.get("utf8_bytes", 0) for source in shards.manifest.get("sources", []))
    unique = train.utf8_bytes + valid.utf8_bytes
    return Survey(
        **_difficulty(_cut_evenly(sample), held_out),
        bytes=max(read, unique),
        unique_bytes=unique,
        training_bytes=train.utf8_bytes,
        held_out_bytes=valid.utf8_bytes,
        documents=train.documents + valid.documents,
        seconds=0.0,
        bytes_per_token={shards.tokenizer.vocab_size: round(train.utf8_bytes / train.tokens, 4)},
        held_out_bytes_per_token={shards.tokenizer.vocab_size: round(valid.utf8_bytes / valid.tokens, 4)},
    )


def survey_text(
    source: Sequence[str] | Text,
    config: DataConfig | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    wanted: TokenizerConfig | None = None,
    progress: Progress = silent,
    notify: Notify = silent,
) -> Survey:
    """Survey a `Text`, or the text of paths, which is then discarded.

    config: how to read paths. notify: called with warnings about skipped or guessed content of paths. tokenizer: an
    existing one to use. wanted: the settings of the one to train. Without either, trial tokenizers are trained for each
    of `VOCABULARIES` that the text supports, and bytes are a vocabulary too. Raises `TinyslmError` if a path cannot be
    read, or if there is too little text.
    """
    if not isinstance(source, Text):
        with reading(Inputs.find(source, config or DataConfig()), progress) as text:
            for warning in text.inputs.total.warnings():
                notify(warning)
            return survey_text(text, tokenizer=tokenizer, wanted=wanted, progress=progress)
    progress("measure the text", 0, 0)
    begun = time.perf_counter()
    corpus, settings, kept = source.corpus, source.inputs.config, source.kept
    training = kept & ~source.held_out
    available = int(corpus.document_bytes[training].sum())
    split = split_text(source)
    documents, unique = int(np.count_nonzero(kept)), int(corpus.document_bytes[kept].sum())
    training_bytes = available if settings.valid_paths else int(available * (1 - settings.valid_share))
    sample, held_out = _samples(corpus, split, kept)
    difficulty = _difficulty(sample, held_out)
    texts = _trial_texts(_spread(corpus, training[corpus.pieces.documents], TOKENIZER_SAMPLE))
    learned = [text for number, text in enumerate(texts) if number % ENCODED_EVERY] or texts
    trials = _trials(learned, available, tokenizer, wanted)
    lengths = partial(_bytes_per_token, trials, available / max(1, documents))
    bytes_per_token = lengths(texts[::ENCODED_EVERY])
    of_held_out = {} if split.kind == "hash" else lengths(_trial_texts(held_out))
    spent = source.seconds + time.perf_counter() - begun - difficulty["probing_seconds"]
    return Survey(
        **difficulty,
        bytes=int(corpus.document_bytes.sum()),
        unique_bytes=unique,
        training_bytes=training_bytes,
        held_out_bytes=unique - training_bytes,
        documents=documents,
        seconds=round(spent, 2),
        bytes_per_token=bytes_per_token,
        held_out_bytes_per_token=of_held_out,
    )


def _difficulty(sample: Sequence[bytes], held_out: Sequence[bytes]) -> dict[str, Any]:
    """The difficulty of a sample of the training text, as fields of a survey.

    The tiny model is scored on held-out text, which may be of another kind: the end of a single file often is.
    """
    begun = time.perf_counter()
    bits = probe(sample, held_out or sample)
    spent = time.perf_counter() - begun
    return {
        "xz_bits": round(xz_bits(sample), 4),
        "context_bits": round(context_bits(sample), 4),
        "probe_bits": round(bits, 4),
        "probed_bytes": sum(map(len, sample)),
        "probing_seconds": round(spent, 2),
    }


def _trials(
    texts: Sequence[str], size: int, tokenizer: Tokenizer | None, wanted: TokenizerConfig | None
) -> dict[int, Tokenizer | None]:
    """Tokenizers by vocabulary size, for text of `size` bytes; None stands for a vocabulary of bytes."""
    if tokenizer is not None:
        return {tokenizer.vocab_size: tokenizer}
    # The sample may have too few repeated sequences for the wanted size even if the whole text has enough.
    if wanted is not None and wanted.kind != "bpe":
        trial = _trial(wanted, texts)
        return {wanted.known_size or trial.vocab_size: trial}
    if wanted is not None and wanted.known_size:
        size_wanted = wanted.known_size
        made = train_tokenizers(texts, [*(o for o in VOCABULARIES if o < size_wanted), size_wanted], like=wanted)
        return {size_wanted: made[max(made)] if made else None}
    sensible = [vocab_size for vocab_size in VOCABULARIES if vocab_size * BYTES_FOR_A_TOKEN <= size]
    made = train_tokenizers(texts, sensible, like=wanted) if sensible else {}
    return {**made} if made and wanted is not None else {BYTE_VOCABULARY: None, **made}


def _trial(wanted: TokenizerConfig, texts: Sequence[str]) -> Tokenizer:
    """A tokenizer of the wanted kind and size, or of the size that the texts support."""
    try:
        return train_as(wanted, texts)
    except TinyslmError:
        return train_as(wanted.model_copy(update={"vocab_size": 0}), texts)


def _bytes_per_token(
    tokenizers: Mapping[int, Tokenizer | None], mean_bytes: float, texts: Sequence[str]
) -> dict[int, float]:
    """Bytes per token of some texts by vocabulary size, with one end token per `mean_bytes` bytes."""
    size = sum(len(text.encode()) for text in texts)

    def measured(one: Tokenizer | None) -> float:
        tokens = sum(len(one.encode(text)) for text in texts) if one else size
        return round(size / (tokens + size / mean_bytes), 4)

    return {vocab_size: measured(one) for vocab_size, one in tokenizers.items()}


def _trial_texts(documents: Sequence[bytes]) -> list[str]:
    """Cut documents into short pieces."""
    return [piece.decode("utf-8", "replace") for text in documents for piece in _pieces(text, TRIAL_PIECE)]


def _samples(corpus: Corpus, split: Split, kept: Flags) -> tuple[list[bytes], list[bytes]]:
    """Samples of the training text and of the held-out text, each of about `SAMPLE` bytes at most."""
    pieces = kept[corpus.pieces.documents]
    whole = pieces.copy()
    learned, held_out = [], []
    if split.cut:
        number, place = split.cut
        whole[number] = False
        (data,) = _spread(corpus, np.arange(len(pieces)) == number, SAMPLE)
        learned, held_out = [data[:place]], [data[place:]]
    learned += _spread(corpus, whole & ~split.valid, SAMPLE)
    held_out += _spread(corpus, whole & split.valid, SAMPLE)
    return _cut_evenly(learned), held_out


def _spread(corpus: Corpus, flags: Flags, size: int) -> list[bytes]:
    """An evenly spread sample of the flagged pieces, of about `size` bytes."""
    total = int(corpus.pieces.bytes[flags].sum())
    places = np.flatnonzero(flags)
    chosen = np.zeros_like(flags)
    chosen[places[:: max(1, total // size)]] = True
    return [text.encode() for text in corpus.texts(chosen)]


def _cut_evenly(documents: Sequence[bytes]) -> list[bytes]:
    """The documents; if there are few, pieces of them, so that some can be held out."""
    pieces = documents
    if len(documents) < FEW_DOCUMENTS:
        pieces = [piece for text in documents for piece in _pieces(text, LONG_PIECE)]
    return list(pieces)


def _pieces(text: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(text), size):
        yield text[start : start + size]
