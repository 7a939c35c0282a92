"""What a terabyte of text and a model of 500M parameters would take, by arithmetic from measured costs.

    python benchmarks/scale_on_paper.py

Nothing is measured here. What was is read from results.json; the rest are assumptions, which are printed. docs/scale.md
explains them.
"""

import json
import statistics
from pathlib import Path

from tinyslm.core.quantities import duration, size

RESULTS = json.loads((Path(__file__).parent / "results.json").read_text())
TEXT, DOCUMENT, BYTES_PER_TOKEN = 1e12, 1_000, 4.0
PARAMETERS, ATTENTION, BATCH = 500e6, 1.1, 2**19
"""ATTENTION: all work, in products with weights. BATCH: tokens of an update."""
CORES, HOSTS, GPUS = 64, 32, 8
GPU, GPU_SHARE = 989e12, 0.4
"""Products of an H100 in bf16, per second (NVIDIA's data sheet, dense), and the share of them that training reaches."""
MANY_CORES = 0.7
"""What a core of a large host does, compared with one of two: they share memory and power."""
SENT = 8
"""Bytes per parameter that a process sends for an update: the sum of gradients in fp32, in two rounds."""
LINKS = {"10 Gb/s": 1.25e9, "100 Gb/s": 12.5e9, "NVLink, 450 GB/s": 450e9}
SIGNATURES, TABLES = 4 * 128, 60
"""Bytes for a document that go back to the first process, and that it keeps in addition to finding duplicates."""


def main() -> None:
    tokens = TEXT / BYTES_PER_TOKEN
    work = 6 * PARAMETERS * ATTENTION * tokens
    print(f"{size(TEXT)} of text: {TEXT / DOCUMENT:.0e} documents of {DOCUMENT} bytes, {tokens:.3g} tokens")
    print(f"training: {work:.3g} floating-point operations")
    prepare()
    duplicates()
    training(work, tokens)


def prepare() -> None:
    """Reading to shards."""
    rate = statistics.median(RESULTS["data"]["result"]["ours_mb_per_s"]) * 1e6 / 2
    cores = CORES * HOSTS
    print(f"preparing: {size(rate)}/s for each core, {duration(TEXT / rate / cores)} on {cores} cores")
    for name, link in list(LINKS.items())[:2]:
        back = TEXT / DOCUMENT * SIGNATURES
        print(f"  through one process, with {size(back)} of signatures: {duration((TEXT + back) / link)} at {name}")


def duplicates() -> None:
    """Finding duplicates, in one process."""
    largest = RESULTS["large data"]["result"]["duplicates"][-1]
    count, many = largest["documents"], TEXT / DOCUMENT
    seconds = largest["seconds"] / count * many * len(f"{int(many):b}") / len(f"{count:b}")  # sorting: n log n
    memory = (largest["more_memory"] / count + TABLES) * many
    print(f"duplicates: {duration(seconds)} and {size(memory)} of memory in one process")
    print(f"  in 64 GB: {64e9 / (memory / many):.2g} documents")


def training(work: float, tokens: float) -> None:
    """The updates, and what of their time the sum of gradients takes if nothing overlaps."""
    rates = RESULTS["throughput"]["result"]["tokens_per_second"]
    core = max(rates["tinyslm, AdamW"], rates["tinyslm, Muon"]) * 6 * 10.65e6 / 2
    ways = {
        f"{GPUS} GPUs": (GPUS * GPU * GPU_SHARE, ("100 Gb/s", "NVLink, 450 GB/s")),
        f"{HOSTS} hosts with {CORES} cores": (HOSTS * CORES * MANY_CORES * core, ("10 Gb/s", "100 Gb/s")),
    }
    print(f"a core: {core / 1e9:.0f} GFLOP/s")
    for name, (speed, links) in ways.items():
        update = work / tokens * BATCH / speed
        print(f"{name}: {speed / 1e12:.0f} TFLOP/s, {days(work / speed)}; an update {update:.2f} s")
        for link in links:
            sum_of_gradients = SENT * PARAMETERS / LINKS[link]
            share = sum_of_gradients / (update + sum_of_gradients)
            whole = days(work / speed / (1 - share))
            print(f"  over {link}: {sum_of_gradients:.3f} s more for each, {100 * share:.0f} % of the time; {whole}")


def days(seconds: float) -> str:
    return f"{seconds / 86_400:.1f} days"


if __name__ == "__main__":
    main()
