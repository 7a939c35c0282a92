"""Convert text to shards: `prepare`.

Pass one reads, cleans and hashes all text, and finds duplicates (`text.py`). After the split (`split.py`), pass two
encodes the kept documents and writes them (`encoding.py`). Equal inputs give equal shards for any number of processes.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tinyslm.core.cluster import THIS_CLUSTER
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import atomic_folder, sha256_json, write_manifest
from tinyslm.core.locks import only_writer
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Notify, Progress, silent
from tinyslm.data.duplicates import Drop
from tinyslm.data.encoding import write_splits
from tinyslm.data.object_storage import is_remote
from tinyslm.data.ray_workers import RayWorkers
from tinyslm.data.shard_cache import KIND, cached_shards, check_stored, data_folder, store_shards
from tinyslm.data.shards import VERSION, Shards, is_shards
from tinyslm.data.sources import fingerprint
from tinyslm.data.split import Split, sample_pieces, split_text
from tinyslm.data.text import Inputs, Text, read_text
from tinyslm.data.workers import Workers
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_as

SAMPLE = 20_000_000
"""Maximum size of the text that a tokenizer is trained on, in bytes."""


def prepare(
    paths: Sequence[str] | Text,
    out: Path | str,
    *,
    tokenizer: Tokenizer | TokenizerConfig | None = None,
    config: DataConfig | None = None,
    on: str = "",
    progress: Progress = silent,
    notify: Notify = silent,
) -> Shards:
    """Make the shards folder `out` from `paths` (files, folders, globs, `-`, `hf://NAME`), or from a `Text`.

    out: a folder, or an address in object storage (`s3://...`); so may files, folders and globs be.
    tokenizer: an existing one, or the settings of one to train on the training text. Documents do not begin with a
    start token, even if the tokenizer adds one to prompts; each follows the end token of the previous one.
    config: how to read `paths`; a `Text` has its own.
    on: "ray" to use the workers of the Ray cluster that this process belongs to; `out` must be on a file system that
    its hosts share.
    progress: called with (stage, bytes done, total bytes); the total is 0 if unknown.
    notify: called with a sentence about everything skipped, dropped or decided.

    If `out` already holds the shards of these inputs, they are returned unchanged. Otherwise the complete new shards
    replace `out`; on an error, it is untouched.
    Raises `TinyslmError` when a path, the text in it, or `out` cannot be used.
    """
    text = paths if isinstance(paths, Text) else None
    given = paths.inputs if isinstance(paths, Text) else Inputs.find(paths, config or DataConfig(), Path(out))
    assert config in (None, given.config), "text is read with one configuration"
    tokenizer = tokenizer.without_start() if isinstance(tokenizer, Tokenizer) else tokenizer
    inputs = _fingerprint(given, tokenizer)
    if is_remote(str(out)):
        if on:
            raise TinyslmError(f"Ray's workers cannot write {out}.", "Give --out a folder; copy it to the bucket then.")
        return _store(str(out).rstrip("/"), text or given, tokenizer, inputs, progress, notify)
    with only_writer(Path(out)):
        if earlier := _earlier(Path(out), inputs, notify):
            return earlier
        manifest = _make(Path(out), text or given, tokenizer, inputs, on, progress)
    for message in _messages(given, manifest):
        notify(message)
    return Shards.open(Path(out), verify=False)


def _store(
    url: str,
    source: Inputs | Text,
    tokenizer: Tokenizer | TokenizerConfig | None,
    inputs: str | None,
    progress: Progress,
    notify: Notify,
) -> Shards:
    """Make the shards in a temporary folder and upload them, unless those of the same inputs are there."""
    earlier = cached_shards(url)
    if earlier and _is_up_to_date(Shards.open(earlier), url, inputs, notify):
        return Shards.open(earlier)
    check_stored(url)
    with TemporaryDirectory(prefix="tinyslm-") as name:
        folder = Path(name, "shards")
        manifest = _make(folder, source, tokenizer, inputs, "", progress)
        progress("upload", 0, 0)
        store_shards(folder, url)
    for message in _messages(source.inputs if isinstance(source, Text) else source, manifest):
        notify(message)
    return Shards.open(data_folder(url))


def _make(
    out: Path,
    source: Inputs | Text,
    tokenizer: Tokenizer | TokenizerConfig | None,
    inputs: str | None,
    on: str,
    progress: Progress,
) -> dict[str, Any]:
    """Write the shards folder. Returns the manifest's description of the text."""
    given = source.inputs if isinstance(source, Text) else source
    # A worker on another host has another current folder.
    with atomic_folder(out.absolute() if on else out) as folder, _workers(on, folder, given.processes) as workers:
        spool = folder / "spool"
        spool.mkdir()
        text = source if isinstance(source, Text) else read_text(source, spool, workers, progress)
        split = split_text(text)
        if not isinstance(tokenizer, Tokenizer):
            progress("tokenizer", 0, 0)
            kept = text.kept[text.corpus.pieces.documents]
            wanted = tokenizer or TokenizerConfig()
            sample = text.corpus.texts(sample_pieces(text.corpus, kept & ~split.valid, _sample_size(wanted)))
            tokenizer = train_as(wanted, sample)
        counts = write_splits(text, split, tokenizer, folder, workers, progress)
        shutil.rmtree(spool)
        manifest = _manifest(text, split)
        manifest |= counts
        write_manifest(folder, {**manifest, "tokenizer": _describe(tokenizer), "inputs": inputs})
    return manifest


def _workers(on: str, folder: Path, processes: int) -> Workers | RayWorkers:
    return RayWorkers(folder) if on == THIS_CLUSTER else Workers(processes)


def _fingerprint(given: Inputs, tokenizer: Tokenizer | TokenizerConfig | None) -> str | None:
    """A hash of all inputs of the shards; None if the text cannot be read twice."""
    text = fingerprint(given.sources)
    if text is None:
        return None
    made_by = tokenizer.sha256 if isinstance(tokenizer, Tokenizer) else (tokenizer or TokenizerConfig()).identity
    return sha256_json([VERSION, text, _settings(given.config), made_by])


def _settings(config: DataConfig) -> dict[str, Any]:
    """What shards depend on; without what only decides whether they are made."""
    return config.model_dump(mode="json", exclude={"workers", "lossy"})


def _earlier(out: Path, inputs: str | None, notify: Notify) -> Shards | None:
    """The intact shards of the same inputs in `out`, or None. Raises `TinyslmError` if `out` holds other files."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not is_shards(out):
        raise TinyslmError(
            f"{out} holds something else than shards.", "Give a folder that does not exist yet, or move that one away."
        )
    try:
        shards = Shards.open(out)
    except TinyslmError as error:
        notify(f"{error.problem} The shards are made again.")
        return None
    return shards if _is_up_to_date(shards, out, inputs, notify) else None


def _is_up_to_date(shards: Shards, out: Path | str, inputs: str | None, notify: Notify) -> bool:
    if inputs is None or shards.manifest["inputs"] != inputs:
        notify(f"{out} holds shards of other inputs; they are replaced.")
        return False
    notify(f"{out} is up to date: its inputs have not changed.")
    return True


def _sample_size(wanted: TokenizerConfig) -> int:
    """Bytes of text to train the tokenizer on."""
    return min(SAMPLE, wanted.sample or SAMPLE)


def _describe(tokenizer: Tokenizer) -> dict[str, Any]:
    return {"sha256": tokenizer.sha256, "kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size}


def _manifest(text: Text, split: Split) -> dict[str, Any]:
    """The manifest's description of the text: counts of read and dropped documents and of incidents, by path."""
    given, corpus, drops, config = text.inputs, text.corpus, text.drops, text.inputs.config
    sources = []
    for origin, (path, tally) in enumerate(zip(given.paths, given.tallies, strict=True)):
        here = corpus.document_origins == origin
        counts = Counter(tally.counts)
        files = counts.pop("files")
        dropped = {drop.name.lower(): int(np.count_nonzero(drops[here] == drop)) for drop in Drop if drop}
        sources.append(
            {
                "path": path,
                "for": "valid" if origin < len(config.valid_paths) else "train",
                "files": files,
                "documents": int(np.count_nonzero(here)),
                "utf8_bytes": int(corpus.document_bytes[here].sum()),
                "kept_documents": int(np.count_nonzero(drops[here] == Drop.KEPT)),
                "kept_bytes": int(corpus.document_bytes[here & (drops == Drop.KEPT)].sum()),
                "dropped_documents": {name: number for name, number in dropped.items() if number},
                "incidents": {name: number for name, number in sorted(counts.items()) if number},
            }
        )
    return {
        "kind": KIND,
        "version": VERSION,
        "split": split.kind,
        "sources": sources,
        "config": _settings(config),
    }


def _messages(given: Inputs, manifest: dict[str, Any]) -> list[str]:
    """Messages to the user about the text."""
    dropped: Counter[str] = Counter()
    for source in manifest["sources"]:
        dropped.update(source["dropped_documents"])
    messages = list(given.total.warnings())
    if "lost" in manifest:
        messages.append(f"The tokenizer loses text: {manifest['lost']}.")
    if dropped["in_validation"]:
        messages.append(
            f"{dropped['in_validation']} training documents were dropped that occur in the validation text."
        )
    repeated = dropped["exact_duplicates"] + dropped["near_duplicates"]
    if repeated:
        messages.append(
            f"{repeated} documents were dropped as repetitions, {dropped['near_duplicates']} of them near ones."
        )
    if manifest["split"] == "tail":
        messages.append("There are too few documents to split: the last part of the text is the validation split.")
    return messages
