"""A look at the text before anything is planned: how much there is, how much of it is new, and how hard it is.

What is measured on a sample is measured on whole documents, spread evenly over all of the text.
"""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from tinyslm.core.config import Section
from tinyslm.data.config import DataConfig
from tinyslm.data.corpus import Corpus, Flags
from tinyslm.data.documents import Progress, silent
from tinyslm.data.shards import Shards
from tinyslm.data.split import Split, split_text
from tinyslm.data.text import Inputs, Text, reading
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer, train_tokenizers
from tinyslm.tokenizer.vocabulary import SMALLEST as BYTE_VOCABULARY
from tinyslm.tokenizer.vocabulary import round_up
from tinyslm.training.planning.compressibility import SAMPLE, context_bits, xz_bits
from tinyslm.training.planning.probe import probe
from tinyslm.training.validation import spread_documents

VOCABULARIES = (1024, 2048, 4096, 8192, 16384)
BYTES_FOR_A_TOKEN = 1000
"""Of text that a vocabulary is worth planning for: with less, a model hardly learns what the rarer tokens mean."""
TOKENIZER_SAMPLE = 1_500_000
"""Bytes that trial tokenizers are trained on; another twentieth of that is encoded."""
LONG_PIECE = 8_000
"""Where the documents are few, bytes of the pieces that they are cut into for the sample."""
FEW_DOCUMENTS = 50


class Survey(Section):
    """What the planner knows of a text."""

    bytes: int = Field(gt=0, description="UTF-8 bytes of the text.")
    unique_bytes: int = Field(gt=0, description="Bytes that are left when repeated documents are dropped.")
    training_bytes: int = Field(gt=0, description="Bytes of those to train on.")
    held_out_bytes: int = Field(ge=0, description="Bytes to validate on.")
    documents: int = Field(gt=0, description="Documents that are left.")
    xz_bits: float = Field(gt=0, description="Bits per byte of a sample compressed by xz.")
    context_bits: float = Field(gt=0, description="Bits per byte of documents predicted from short contexts in others.")
    probe_bits: float = Field(
        gt=0, description="Bits per byte of what is held out, for a tiny model that learned from a sample for a moment."
    )
    probed_bytes: int = Field(gt=0, description="Bytes of that sample.")
    probing_seconds: float = Field(ge=0, description="Seconds that this took.")
    seconds: float = Field(
        ge=0, description="Seconds that looking took; preparing takes about as long (0: it is done)."
    )
    bytes_per_token: dict[int, float] = Field(
        description="Bytes in a token, the ends of documents counted, for each vocabulary that the text supports."
    )

    @property
    def mean_document_bytes(self) -> float:
        """Mean length of a document."""
        return self.unique_bytes / self.documents

    def bytes_in_token(self, vocab_size: int) -> float:
        """Bytes in a token; for a vocabulary that was not measured, between or like the nearest ones that were."""
        sizes = sorted(self.bytes_per_token)
        lengths = [self.bytes_per_token[size] for size in sizes]
        return float(np.interp(math.log(vocab_size), np.log(sizes), lengths))


def survey_shards(shards: Shards) -> Survey:
    """Look at text that has its tokenizer: only this one vocabulary is possible."""
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
    )


def survey_text(
    source: Sequence[str] | Text,
    config: DataConfig | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    wanted: TokenizerConfig | None = None,
    progress: Progress = silent,
) -> Survey:
    """Measure samples of text: what was read of some paths, or paths, of which then nothing is kept.

    config: for paths. tokenizer: the one that will be used. wanted: the settings of the one that will be trained.
    Without either, trial tokenizers are trained, one for each of `VOCABULARIES` that the text supports, beside a token
    for each byte. Raises `TinyslmError` when a path cannot be read, or there is too little text.
    """
    if not isinstance(source, Text):
        with reading(Inputs.find(source, config or DataConfig()), progress) as text:
            return survey_text(text, tokenizer=tokenizer, wanted=wanted, progress=progress)
    progress("measure", 0, 0)
    begun = time.perf_counter()
    corpus, settings, kept = source.corpus, source.inputs.config, source.kept
    training = kept & ~source.held_out
    found = int(corpus.document_bytes[training].sum())
    split = split_text(source)
    documents, unique = int(np.count_nonzero(kept)), int(corpus.document_bytes[kept].sum())
    training_bytes = found if settings.valid_paths else int(found * (1 - settings.valid_share))
    difficulty = _difficulty(*_samples(corpus, split, kept))
    for_tokenizers = _spread(corpus, training[corpus.pieces.documents], TOKENIZER_SAMPLE)
    bytes_per_token = _bytes_per_token(for_tokenizers, (found, documents), tokenizer, wanted)
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
    )


def _difficulty(sample: Sequence[bytes], held_out: Sequence[bytes]) -> dict[str, Any]:
    """How hard a sample of the training text is, by each measure, as fields of a survey.

    The tiny model is asked about what is held out, as that may be of another kind: the end of a single file often is.
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


def _bytes_per_token(
    documents: Sequence[bytes],
    of: tuple[int, int],
    tokenizer: Tokenizer | None,
    wanted: TokenizerConfig | None,
) -> dict[int, float]:
    """Bytes for each token, with the end token of each document. `of`: bytes and documents that these are a part of."""
    whole, mean_bytes = of[0], of[0] / max(1, of[1])
    texts = [text.decode("utf-8", "replace") for text in _cut_evenly(documents)]
    encoded = texts[::20]
    learned = [text for number, text in enumerate(texts) if number % 20] or texts
    size = sum(len(text.encode()) for text in encoded)

    def measured(one: Tokenizer) -> float:
        tokens = sum(len(one.encode(text)) for text in encoded)
        return round(size / (tokens + size / mean_bytes), 4)

    if tokenizer is None and wanted is not None and wanted.kind != "bpe":
        tokenizer = train_tokenizer(learned, kind=wanted.kind, vocab_size=wanted.vocab_size)
    if tokenizer is not None:
        return {tokenizer.vocab_size: measured(tokenizer)}
    if wanted is not None and wanted.vocab_size:
        # The sample may have too few repeated sequences where the whole text has enough.
        size_wanted = max(BYTE_VOCABULARY, round_up(wanted.vocab_size))
        trials = train_tokenizers(learned, [*(one for one in VOCABULARIES if one < size_wanted), size_wanted])
        return {size_wanted: measured(trials[max(trials)]) if trials else 1.0}
    sensible = [vocab_size for vocab_size in VOCABULARIES if vocab_size * BYTES_FOR_A_TOKEN <= whole]
    made = train_tokenizers(learned, sensible) if sensible else {}
    bytewise = {} if wanted is not None else {BYTE_VOCABULARY: round(size / (size + size / mean_bytes), 4)}
    found = bytewise | {vocab_size: measured(one) for vocab_size, one in made.items()}
    return found or {BYTE_VOCABULARY: 1.0}


def _samples(corpus: Corpus, split: Split, kept: Flags) -> tuple[list[bytes], list[bytes]]:
    """Text to train on and text that is held out, each of about `SAMPLE` bytes at most."""
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
    """Of the flagged pieces some of together about `size` bytes, spread evenly."""
    total = int(corpus.pieces.bytes[flags].sum())
    places = np.flatnonzero(flags)
    chosen = np.zeros_like(flags)
    chosen[places[:: max(1, total // size)]] = True
    return [text.encode() for text in corpus.texts(chosen)]


def _cut_evenly(documents: Sequence[bytes]) -> list[bytes]:
    """The documents; where they are few and long, pieces of them, so that there is something to hold out."""
    pieces = documents
    if len(documents) < FEW_DOCUMENTS:
        pieces = [piece for text in documents for piece in _pieces(text)]
    return list(pieces)


def _pieces(text: bytes) -> Iterator[bytes]:
    for start in range(0, len(text), LONG_PIECE):
        yield text[start : start + LONG_PIECE]
