"""Text to shards: speed compared with `datasets.map` and `tokenizers`, and memory for a large input.

    python benchmarks/data_prepare.py --data stories.jsonl            MB/s, alternating with the peer
    python benchmarks/data_prepare.py --data stories.jsonl --memory   peak memory of all processes for 1 GB of text

Ours is the whole way: reading, cleaning, exact and near duplicates, split, encoding, shards with checksums. The peer's
is `load_dataset` (prepared beforehand, not timed) and `map` with `encode_batch` in two processes: tokenization alone.
Both use the same byte-level BPE of 4,096.
"""

import json
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from harness import alternate, finish, parser
from tinyslm.data.config import DataConfig
from tinyslm.data.prepare import prepare
from tinyslm.data.reading import read_documents
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer

PROCESSES = 2


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--data", required=True, type=Path, help="a .jsonl file with a text column")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--memory", action="store_true", help="measure the peak memory for a generated input instead")
    options.add_argument("--bytes", type=int, default=1_000_000_000, help="size of that input")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        tokenizer = train_tokenizer((one.text for one in read_documents([str(arguments.data)])), vocab_size=4096)
        tokenizer.save(work / "tokenizer")
        if arguments.memory:
            finish(measure_memory(arguments.data, arguments.bytes, work, tokenizer))
        else:
            finish(measure_speed(arguments.data, arguments.rounds, work, tokenizer))


def measure_speed(data: Path, rounds: int, work: Path, tokenizer: Tokenizer) -> dict:
    import datasets

    datasets.disable_progress_bars()
    megabytes = sum(len(document.text.encode()) for document in read_documents([str(data)])) / 1e6
    dataset = datasets.load_dataset("json", data_files=str(data), split="train", cache_dir=str(work / "cache"))
    ways = {
        "tinyslm": lambda _: megabytes / seconds(lambda: run_ours(data, work / "shards", tokenizer)),
        "datasets": lambda _: megabytes / seconds(lambda: run_theirs(dataset, work)),
    }
    rates = alternate(ways, range(rounds + 1))
    ratios = [ours / theirs for ours, theirs in zip(rates["tinyslm"], rates["datasets"], strict=True)]
    figures = {"ours_mb_per_s": rates["tinyslm"], "datasets_mb_per_s": rates["datasets"], "ratios": ratios}
    return {"megabytes": megabytes, **figures}


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def run_ours(data: Path, out: Path, tokenizer: Tokenizer) -> None:
    shutil.rmtree(out, ignore_errors=True)
    prepare([str(data)], out, tokenizer=tokenizer, config=DataConfig(workers=PROCESSES))


def run_theirs(dataset, work: Path) -> None:
    path = str(work / "tokenizer/tokenizer.json")

    def encode(rows):
        from tokenizers import Tokenizer

        encoded = Tokenizer.from_file(path).encode_batch(rows["text"], add_special_tokens=False)
        return {"ids": [encoding.ids for encoding in encoded]}

    dataset.map(
        encode,
        batched=True,
        batch_size=1000,
        num_proc=PROCESSES,
        remove_columns=dataset.column_names,
        load_from_cache_file=False,
        cache_file_name=str(work / "mapped.arrow"),
    )


def measure_memory(data: Path, size: int, work: Path, tokenizer: Tokenizer) -> dict:
    """Peak of the resident memory of this process and its workers, and what it was before."""
    large = work / "large.jsonl"
    documents = write_large(data, large, size)
    before = resident_megabytes()
    peak, ended = [before], threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            peak[0] = max(peak[0], resident_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    elapsed = seconds(lambda: run_ours(large, work / "shards", tokenizer))
    ended.set()
    watcher.join()
    (source,) = json.loads((work / "shards/manifest.json").read_text())["sources"]
    megabytes = source["utf8_bytes"] / 1e6
    found = {"megabytes": round(megabytes, 2), "documents": documents, "dropped": source["dropped_documents"]}
    return {**found, "mb_per_s": megabytes / elapsed, "before_mb": round(before), "peak_mb": round(peak[0])}


def write_large(data: Path, file: Path, size: int) -> int:
    """`size` bytes of text in documents of about 1,000 characters, one in a hundred a repetition: their number."""
    sentences = [
        sentence
        for document in read_documents([str(data)])
        for sentence in document.text.replace("\n", " ").split(". ")
        if 20 < len(sentence) < 200
    ]
    dice = random.Random(0)
    written = documents = 0
    text = ""
    with file.open("w", encoding="utf-8") as out:
        while written < size:
            if not text or dice.random() > 0.01:
                text = ". ".join(dice.choices(sentences, k=dice.randint(5, 20)))
            out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            written += len(text)
            documents += 1
    return documents


def resident_megabytes() -> float:
    """Of this process and all that it started, shared pages counted in each."""
    this = psutil.Process()
    total = 0
    for process in (this, *this.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


if __name__ == "__main__":
    main()
