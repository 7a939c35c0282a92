"""Overlap of tasks with training data: sequences of 13 words in common, whatever their case and punctuation."""

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest

from tinyslm.data import ngrams
from tinyslm.data.ngrams import overlapping
from tinyslm.data.prepare import prepare
from tinyslm.data.used import note_data
from tinyslm.evaluation.continuations import Reading
from tinyslm.evaluation.overlap import Overlap, training_texts
from tinyslm.evaluation.protocols import ContinuationScore
from tinyslm.evaluation.running import Subject, run_task, with_overlap
from tinyslm.evaluation.tasks.loading import load_tasks
from tinyslm.tokenizer.config import TokenizerConfig

DRAW = random.Random(0)
WORDS = [f"{one}{other}" for one in ("ba", "ko", "mi", "ru", "te") for other in ("lan", "mor", "net", "sud", "vik")]


def text_of(count: int) -> str:
    return " ".join(DRAW.choices(WORDS, k=count))


def hits(item: str, *training: str) -> tuple[bool, bool]:
    """Whether an item is found, and whether it was checked."""
    found, checked = overlapping([item], training)
    return bool(found[0]), bool(checked[0])


LONG = text_of(30)
THIRTEEN = " ".join(LONG.split()[10:23])


@pytest.mark.parametrize(
    "training",
    [
        THIRTEEN,
        f"{text_of(500)} {THIRTEEN} {text_of(500)}",
        THIRTEEN.upper(),
        THIRTEEN.replace(" ", ", ").title() + "!",
        "“" + THIRTEEN.replace(" ", "’ ‘") + "…”",
        THIRTEEN.replace(" ", "\n\n— "),
        THIRTEEN.replace(" ", " “"),
        THIRTEEN.replace(" ", "\u00a0"),
    ],
    ids=["alone", "inside", "capitals", "commas", "curly marks", "dashes", "opening marks", "other spaces"],
)
def test_thirteen_words_in_common_are_found(training: str) -> None:
    assert hits(LONG, text_of(100), training) == (True, True)
    assert hits(training, text_of(100), LONG) == (True, True)


def test_twelve_words_in_common_are_not_enough() -> None:
    twelve = " ".join(THIRTEEN.split()[:12])
    assert hits(LONG, f"{text_of(50)} {twelve} {text_of(50)}") == (False, True)
    swapped = THIRTEEN.split()
    swapped[5], swapped[6] = "something", "else"
    assert hits(LONG, " ".join(swapped)) == (False, True)


@pytest.mark.parametrize("count", [8, 9, 12])
def test_a_short_item_must_stand_in_the_data_as_a_whole(count: int) -> None:
    item = text_of(count)
    assert hits(item, f"{text_of(20)} {item.title()}. {text_of(20)}") == (True, True)
    assert hits(item, item.rpartition(" ")[0]) == (False, True)


def test_shorter_items_are_not_checked() -> None:
    item = text_of(7)
    assert hits(item, item) == (False, False)
    assert hits("", "") == (False, False)
    assert hits("?!", LONG) == (False, False)


def test_apostrophes_do_not_matter() -> None:
    item = "don't you think that it's a fine day for the old man's boat"
    assert hits(item, item.replace("'", "’")) == (True, True)


def test_items_are_told_apart_and_do_not_run_into_each_other() -> None:
    items = [text_of(20), text_of(5), text_of(9), text_of(13), text_of(20), ""]
    found, checked = overlapping(items, [items[2], items[4], f"{items[0][-30:]} {items[1]}"])
    assert found.tolist() == [False, False, True, False, True, False]
    assert checked.tolist() == [True, False, True, True, True, False]
    across = f"{' '.join(items[0].split()[-8:])} {items[1]} {' '.join(items[2].split()[:2])}"
    assert not overlapping(items, [across])[0].any(), "words of several items are no item"


def test_the_size_of_chunks_does_not_matter(monkeypatch) -> None:
    items = [text_of(count) for count in (8, 13, 40) * 5]
    training = [
        text_of(30) + item * (number % 2) for number, item in enumerate(f" {one} {text_of(9)}" for one in items)
    ]
    whole = overlapping(items, training)[0]
    monkeypatch.setattr(ngrams, "CHUNK", 100)
    assert np.array_equal(overlapping(items, training)[0], whole)
    assert whole.tolist() == [bool(number % 2) for number in range(len(items))]


def test_the_labels_of_a_prompt_are_not_part_of_an_item(tmp_path: Path) -> None:
    words = text_of(12).split()
    question, right = " ".join(words[:10]), " ".join(words[10:])
    row = {"goal": question, "sol1": text_of(2), "sol2": right, "label": 1}
    (tmp_path / "piqa.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (tmp_path / "gsm8k.jsonl").write_text(json.dumps({"question": question, "answer": "#### 1"}), encoding="utf-8")
    for name in ("piqa", "gsm8k"):
        (task,) = load_tasks(f"{name}={tmp_path / name}.jsonl")
        assert hits(task.examples[0].text, f"{text_of(9)} {question}? {right}") == (True, True), name


class ByLength:
    """A program that finds every text as probable as its length says."""

    def score_text(self, request) -> ContinuationScore:
        return ContinuationScore(-float(len(request.text)), 1, False)


def test_the_score_without_overlapping_items(tmp_path: Path) -> None:
    known, other = text_of(15), text_of(15)
    rows = [{"good": known, "bad": known + "x"}, {"good": f"{other} x", "bad": other}, {"good": "a", "bad": "bb"}]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (task,) = load_tasks(f"blimp={tmp_path / 'pairs.jsonl'}")
    subject = Subject("lengths", ByLength(), None, Reading((), 100))
    score = run_task(subject, task)
    assert score.value == pytest.approx(2 / 3)
    (short,) = load_tasks(f"blimp={tmp_path / 'pairs.jsonl'}", limit=1)
    again = run_task(subject, short)
    one, none, two = with_overlap([task, task, short], [score, None, again], iter([known]))
    assert one == dataclasses.replace(score, overlap=Overlap(1, 2, 0.5))
    assert none is None
    assert two == dataclasses.replace(again, overlap=Overlap(1, 1, None)), "nothing is left without it"


def test_the_texts_of_a_run_are_found_by_its_data_file(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    documents = [f"{text_of(40)}." for _ in range(30)]
    for number, document in enumerate(documents):
        (tmp_path / "texts" / f"{number}.txt").write_text(document, encoding="utf-8")
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    assert training_texts(run) is None
    prepare([str(tmp_path / "texts")], tmp_path / "shards", tokenizer=TokenizerConfig(kind="byte"))
    note_data(run, tmp_path / "shards")
    for model in (run, run / "model"):
        texts = training_texts(model)
        assert texts is not None
        trained = [one.strip() for one in texts]
        assert set(trained) <= set(documents)
        assert len(trained) >= 20, "all but the validation documents"
    items = [documents[documents.index(trained[0])], text_of(40)]
    assert overlapping(items, training_texts(run) or ())[0].tolist() == [True, False]
    (tmp_path / "shards" / "manifest.json").unlink()
    assert training_texts(run) is None
