"""A model folder's score on text: `evaluate`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Notify, Progress, silent
from tinyslm.data.reading import read_documents
from tinyslm.data.shards import Shards, given_shards
from tinyslm.evaluation.loss import Score, document_losses
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.model.folder import load_model, load_tokenizer
from tinyslm.tokenizer.tokenizer import Tokenizer

Documents = Iterator[tuple[list[int], int]]
"""Token ids, and the number of UTF-8 bytes they stand for."""


def evaluate(
    model: str | Path,
    paths: Sequence[str | Path],
    *,
    stride: int | None = None,
    dtype: str = "fp32",
    config: DataConfig | None = None,
    notify: Notify = silent,
    progress: Progress = silent,
) -> Score:
    """Score the model in a folder on the documents in `paths`, or on the validation documents of one shards folder.

    stride: how far windows move over documents longer than the context (the default). config: how text is read; by
    default it is cleaned as for training. Raises `TinyslmError` when the model or the text cannot be used.
    """
    if not paths:
        raise TinyslmError("No text to score was given.", "For instance: tinyslm evaluate MODEL held-out.txt")
    device = pick_device()
    decoder = load_model(Path(model), device=device, dense=True)
    if stride is not None and not 0 < stride <= decoder.config.context:
        raise TinyslmError(
            f"A stride of {stride} does not suit a context of {decoder.config.context}.",
            f"Give a stride from 1 to {decoder.config.context}.",
        )
    tokenizer = load_tokenizer(Path(model))
    if (folder := given_shards(paths)) is not None:
        documents = _validation_documents(Shards.open(folder), tokenizer)
    else:
        documents = _documents([str(path) for path in paths], tokenizer, config, notify)
    documents = _counted(documents, progress)
    return document_losses(
        decoder,
        documents,
        end_id=tokenizer.eos_id,
        start_id=tokenizer.start_ids[-1] if tokenizer.start_ids else None,
        stride=stride,
        dtype=pick_dtype(device, dtype),
    ).score()


def _counted(documents: Documents, progress: Progress) -> Documents:
    """The same documents; tells how many bytes of them were asked for so far."""
    done = 0
    for ids, size in documents:
        done += size
        progress("scoring", done, 0)
        yield ids, size


def _documents(paths: Sequence[str], tokenizer: Tokenizer, config: DataConfig | None, notify: Notify) -> Documents:
    """Token ids and bytes of each document; the pieces of a long one are put together again."""
    ids: list[int] = []
    size = 0
    for piece in read_documents(paths, config, notify=notify):
        ids += tokenizer.encode(piece.text)
        size += len(piece.text.encode("utf-8", "replace"))
        if piece.last:
            yield ids, size
            ids, size = [], 0


def _validation_documents(shards: Shards, tokenizer: Tokenizer) -> Documents:
    """The same from shards, which must have been made with the model's tokenizer."""
    if shards.tokenizer.sha256 != tokenizer.without_start().sha256:
        raise TinyslmError(
            f"The shards in {shards.folder} were made with another tokenizer than this model's.",
            "Score the text itself instead: tinyslm evaluate MODEL PATH",
        )
    split = shards.split("valid")
    for number in range(split.documents):
        yield split.document(number)[:-1].tolist(), split.document_bytes(number)
