"""Conversations as a text: an examples folder written as shards, for what reads text, such as quantization."""

from pathlib import Path

import numpy as np

from tinyslm.core.files import atomic_folder, write_manifest
from tinyslm.data.examples import SPLITS, open_examples
from tinyslm.data.shard_cache import KIND
from tinyslm.data.shards import VERSION, SplitWriter


def as_shards(examples: Path, out: Path) -> Path:
    """Write the conversations of an examples folder to the new shards folder `out`, each one a document.

    Returns `out`. Raises `TinyslmError` for another kind of folder.
    """
    *splits, tokenizer = open_examples(examples)
    sizes = np.array([len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)])
    dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    with atomic_folder(out) as folder:
        counts = {}
        for name, split in zip(SPLITS, splits, strict=True):
            writer = SplitWriter(folder, name, dtype)
            for number in range(len(split)):
                ids = split[number].ids
                one = (np.array([len(ids) + 1]), np.array([sizes[ids].sum()]), np.array([True]))
                writer.add(np.append(ids, tokenizer.eos_id).astype(dtype), *one)
            counts[name] = writer.finish()
        tokenizer.save(folder / "tokenizer")
        about = {"kind": KIND, "version": VERSION, "dtype": dtype, "splits": counts}
        write_manifest(folder, about | {"tokenizer": {"sha256": tokenizer.sha256}})
    return out
