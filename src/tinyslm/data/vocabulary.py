"""Train a tokenizer on paths and save it, for use with several data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import xxhash

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import MANIFEST, atomic_folder, read_manifest, sha256_json, write_manifest
from tinyslm.core.locks import only_writer
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Notify, Tally, silent
from tinyslm.data.prepare import SAMPLE
from tinyslm.data.reading import read_documents
from tinyslm.data.sources import find_sources, fingerprint
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_as


def make_tokenizer(
    paths: Sequence[str],
    out: Path,
    *,
    tokenizer: TokenizerConfig | None = None,
    config: DataConfig | None = None,
    notify: Notify = silent,
) -> Tokenizer:
    """Train a tokenizer on the text in `paths`, or a sample of about 20 MB, and save it in the folder `out`.

    If `out` already holds the tokenizer of these inputs, it is returned unchanged.
    Raises `TinyslmError` when a path cannot be used, or `out` holds other files.
    """
    tokenizer, config, out = tokenizer or TokenizerConfig(), config or DataConfig(), Path(out)
    sources = find_sources(paths, [Tally() for _ in paths], config)
    text = fingerprint(sources)
    inputs = text and sha256_json([text, tokenizer.identity, config.clean, config.text_column, config.encoding])
    with only_writer(out):
        if _holds(out, inputs):
            notify(f"{out} is up to date: its inputs have not changed.")
            return Tokenizer.load(out)
        texts = _sample(paths, config, sum(source.size or 0 for source in sources), notify)
        made = train_as(tokenizer, texts)
        with atomic_folder(out) as folder:
            made.save(folder)
            write_manifest(folder, {"kind": "tokenizer", "inputs": inputs})
    return made


def _holds(out: Path, inputs: str | None) -> bool:
    """Whether `out` holds the tokenizer of these inputs. Raises `TinyslmError` if it holds other files."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    manifest = read_manifest(out) if (out / MANIFEST).is_file() else {}
    if manifest.get("kind") != "tokenizer":
        raise TinyslmError(
            f"{out} holds something else than a tokenizer of tinyslm.", "Give a folder that does not exist yet."
        )
    return inputs is not None and manifest["inputs"] == inputs


def _sample(paths: Sequence[str], config: DataConfig, size: int, notify: Notify) -> Iterator[str]:
    """Yield the texts of the documents, or of a sample of them that depends only on their content."""
    share = min(1.0, SAMPLE / size) if size else 1.0
    for document in read_documents(paths, config, notify=notify):
        if xxhash.xxh3_64_intdigest(document.text.encode("utf-8", "replace")) < share * 2**64:
            yield document.text
