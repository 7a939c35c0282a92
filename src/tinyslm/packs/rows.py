"""The rows of a pack in files: generated and imported ones to learn from, and others to test on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import xxhash

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import atomic_folder
from tinyslm.data.conversations import rows_of
from tinyslm.data.ngrams import overlapping
from tinyslm.packs.pack import TEST_ROWS, TEST_SEED, Pack, Row, question_of, unique_rows

TEST_SHARE = 10
"""One of so many imported rows is for testing, chosen by a hash of its question."""
TRAIN_FILE, TEST_FILE = "train.jsonl", "test.jsonl"


@dataclass(frozen=True)
class PackRows:
    """Rows to learn from and to test on; no test question overlaps with what is learned.

    imported: how many rows of files are among them. unused: how many rows of files no skill could use. overlapping: how
    many test rows were left out, as they share 13 words in a row with rows to learn from.
    """

    train: Sequence[Row]
    test: Sequence[Row]
    imported: int = 0
    unused: int = 0
    overlapping: int = 0
    skills: Mapping[str, int] = field(default_factory=dict)

    def write(self, out: Path) -> None:
        """Write `train.jsonl` and `test.jsonl` into the folder `out`, both or none."""
        with atomic_folder(out) as folder:
            for name, rows in ((TRAIN_FILE, self.train), (TEST_FILE, self.test)):
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                (folder / name).write_text(text, encoding="utf-8")


def make_rows(
    pack: Pack,
    count: int | None = None,
    *,
    seed: int = 1,
    files: Sequence[str | Path] = (),
    skip: Callable[[str, str], None] = lambda *_: None,
) -> PackRows:
    """Rows of a pack: `count` generated ones to learn from, as well as those in files.

    skip: called with the location and the reason for each row of a file that cannot be used. Raises `TinyslmError` for
    files that cannot be read, and for those without a row that a skill can use.
    """
    train = list(pack.generate("train", pack.rows if count is None else count, seed))
    test = [row for skill in pack.skills for row in islice(unique_rows(skill, "test", TEST_SEED), TEST_ROWS)]
    imported = unused = 0
    for file in files:
        found = 0
        for place, row in rows_of(Path(file), skip):
            converted = pack.convert(row)
            if converted is None:
                unused += 1
                skip(place, "no skill can use it")
                continue
            found += 1
            hashed = xxhash.xxh3_64_intdigest(question_of(converted).encode())
            (train if hashed % TEST_SHARE else test).append(converted)
        if not found:
            raise TinyslmError(
                f"{file} has no rows that the pack {pack.name} can use.",
                f"What it reads: tinyslm packs show {pack.name}",
            )
        imported += found
    asked = {question_of(row) for row in test}
    if pack.requests:
        asked |= {question_of(row) for _, row in pack.written_requests()}
    train = [row for row in train if question_of(row) not in asked]
    hits, _ = overlapping([question_of(row) for row in test], (question_of(row) for row in train))
    kept = [row for row, hit in zip(test, hits, strict=True) if not hit]
    counts = {skill.name: sum(row["skill"] == skill.name for row in train) for skill in pack.skills}
    return PackRows(train, kept, imported, unused, len(test) - len(kept), counts)
