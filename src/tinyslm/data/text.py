"""Read text once, for planning and for making shards."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import disk_error
from tinyslm.core.quantities import size
from tinyslm.data.config import DataConfig
from tinyslm.data.corpus import Corpus, Flags, read_corpus
from tinyslm.data.documents import Progress, Tally, nothing_to_read, silent
from tinyslm.data.duplicates import Drop, find_duplicates
from tinyslm.data.sources import Source, find_sources
from tinyslm.data.workers import Mapper, Workers
from tinyslm.hardware.limits import usable_cores

SMALLEST = 2_000  # minimum bytes of training text
ONE_PROCESS = 4_000_000  # with less text, in bytes, starting processes costs more than it saves


@dataclass(frozen=True, slots=True)
class Inputs:
    """The user's paths (those for validation first), the sources in them, and a tally for each path."""

    paths: tuple[str, ...]
    config: DataConfig
    sources: list[Source]
    tallies: list[Tally]

    @classmethod
    def find(cls, paths: Sequence[str], config: DataConfig, out: Path | None = None) -> Inputs:
        """Find the sources in `paths`, except in the folder `out`. Raises `TinyslmError` for a path without files."""
        everything = (*config.valid_paths, *paths)
        tallies = [Tally() for _ in everything]
        return cls(everything, config, find_sources(everything, tallies, config, out), tallies)

    @property
    def total(self) -> Tally:
        """The tallies of all paths together."""
        total = Tally()
        for tally in self.tallies:
            total.merge(tally)
        return total

    @property
    def processes(self) -> int:
        """The number of processes to start for this amount of text."""
        sizes = [ONE_PROCESS if source.size is None else source.size for source in self.sources]
        return (self.config.workers or usable_cores()) if sum(sizes) >= ONE_PROCESS else 1


@dataclass(frozen=True, slots=True)
class Text:
    """All text of some inputs, cleaned and spooled on the disk; valid while the spool folder exists.

    held_out: flags of the documents from validation paths. drops: a `Drop` for each document. seconds: duration of
    reading.
    """

    inputs: Inputs
    corpus: Corpus
    held_out: Flags
    drops: NDArray[np.uint8]
    seconds: float

    @property
    def kept(self) -> Flags:
        """Flags of the documents that are not dropped."""
        kept: Flags = self.drops == Drop.KEPT
        return kept


@contextmanager
def reading(inputs: Inputs, progress: Progress = silent) -> Iterator[Text]:
    """Read all text of the inputs into a temporary folder, which is removed after the block."""
    with TemporaryDirectory(prefix="tinyslm-") as name:
        folder = Path(name)
        try:
            with Workers(inputs.processes) as workers:
                text = read_text(inputs, folder, workers, progress)
        except OSError as error:
            raise disk_error(folder, error) from error
        yield text


def read_text(inputs: Inputs, folder: Path, workers: Mapper, progress: Progress) -> Text:
    """Read, clean and compare all text of the inputs, spooling it into `folder`, which must exist and be empty.

    Raises `TinyslmError` when a source cannot be read, or there is too little text to train on.
    """
    begun = time.perf_counter()
    config = inputs.config
    corpus = read_corpus(inputs.sources, config, folder, inputs.tallies, workers, progress)
    if not len(corpus.document_bytes):
        raise nothing_to_read(inputs.paths, inputs.total.counts.items())
    held_out = corpus.document_origins < len(config.valid_paths)
    drops = find_duplicates(corpus, held_out, config)
    text = Text(inputs, corpus, held_out, drops, time.perf_counter() - begun)
    _check_amount(text)
    return text


def _check_amount(text: Text) -> None:
    found = int(text.corpus.document_bytes[text.kept & ~text.held_out].sum())
    if found < SMALLEST:
        dropped = int(np.count_nonzero(~text.kept))
        raise TinyslmError(
            f"There is too little text: {size(found)} to train on"
            + (f", after {dropped} repeated documents were dropped" if dropped else "")
            + f"; the minimum is {size(SMALLEST)}, and a useful model needs more than 1 MB.",
            "Give more text.",
        )
