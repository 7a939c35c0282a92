"""Duplicates among many documents, and the loader over many: time and memory, measured on growing samples.

    python benchmarks/large_data.py                                  to a million documents
    python benchmarks/large_data.py --documents 250000 500000

Documents are random signatures and hashes, of which a twentieth repeat another one, half of them exactly: what reading
and signing cost is measured by data_prepare.py. The loader reads random tokens through an index of ten times as many
documents. docs/scale.md extends the figures to a billion documents.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness import finish, in_process, parser, peak_memory

MEAN_TOKENS = 250
BATCHES = 200


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--documents", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    arguments = options.parse_args()
    finish(
        {
            "duplicates": [in_process("large_data.duplicates", count) for count in arguments.documents],
            "loader": [in_process("large_data.loading", 10 * count) for count in arguments.documents],
        }
    )


def duplicates(count: int) -> dict[str, Any]:
    """Find the duplicates among `count` documents."""
    from tinyslm.data.config import DataConfig
    from tinyslm.data.corpus import SIGNATURES, Corpus, Pieces
    from tinyslm.data.duplicates import find_duplicates
    from tinyslm.data.similarity import SLOTS

    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hashes = random.integers(0, 1 << 63, count, dtype=np.uint64)
        repeats = random.permutation(count)[: count // 20]
        hashes[repeats[::2]] = hashes[repeats[::2] - 1]
        with (folder / SIGNATURES).open("wb") as file:
            near = set(repeats[1::2].tolist())
            last = np.zeros(SLOTS, np.uint16)
            for start in range(0, count, 1 << 14):
                rows = random.integers(0, 1 << 16, (min(1 << 14, count - start), SLOTS), dtype=np.uint16)
                for row in range(len(rows)):
                    if start + row in near:  # nine slots in ten are those of the document before
                        rows[row, : SLOTS * 9 // 10] = last[: SLOTS * 9 // 10]
                    last = rows[row]
                file.write(rows.tobytes())
        ones = np.ones(count, np.int64)
        pieces = Pieces(ones, hashes, 0 * ones, np.ones(count, bool))
        corpus = Corpus(folder, np.array([0, count]), pieces, ones, hashes, 0 * ones)
        before, begun = peak_memory(), time.perf_counter()
        drops = find_duplicates(corpus, np.zeros(count, bool), DataConfig())
        seconds = time.perf_counter() - begun
        return {
            "documents": count,
            "seconds": round(seconds, 2),
            "more_memory": max(0, peak_memory() - before),
            "found": int(np.count_nonzero(drops)),
            "wanted": len(repeats),
            "signature_bytes": (folder / SIGNATURES).stat().st_size,
        }


def loading(count: int) -> dict[str, Any]:
    """Open shards of so many documents, and read shuffled batches."""
    from tinyslm.data.loader import Loader
    from tinyslm.data.shards import SHARD_TOKENS, TokenSplit

    tokens = count * MEAN_TOKENS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = -(-tokens // SHARD_TOKENS)
        for shard in range(shards):
            first, end = shard * SHARD_TOKENS, min(tokens, (shard + 1) * SHARD_TOKENS)
            ends = np.arange((first // MEAN_TOKENS + 1) * MEAN_TOKENS, end + 1, MEAN_TOKENS)
            np.save(folder / f"train-{shard:05d}.documents.npy", np.stack([ends, 0 * ends + 1000], 1))
            with (folder / f"train-{shard:05d}.bin").open("wb") as file:
                file.truncate(2 * (end - first))  # a file with a hole: zeros that take no room
        documents = sum(len(np.load(path, mmap_mode="r")) for path in folder.glob("*.npy"))
        counts = {"tokens": tokens, "documents": documents, "utf8_bytes": 1000 * documents, "shards": shards}
        before, begun = peak_memory(), time.perf_counter()
        split = TokenSplit(folder, "train", {"dtype": "uint16", "splits": {"train": counts}})
        opened = time.perf_counter() - begun
        loader = Loader(split, context=1024, batch=64, seed=1)
        begun = time.perf_counter()
        for _ in range(BATCHES):
            loader.next()
        rate = BATCHES * 64 * 1024 / (time.perf_counter() - begun)
        return {
            "documents": documents,
            "tokens": tokens,
            "shards": shards,
            "seconds_to_open": round(opened, 3),
            "tokens_per_second": round(rate),
            "more_memory": max(0, peak_memory() - before),
        }


if __name__ == "__main__":
    main()
