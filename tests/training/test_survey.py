"""What the survey says of texts of which it is known."""

import random
from pathlib import Path

import pytest
import torch

from sentences import sentences
from tinyslm.core.errors import TinyslmError
from tinyslm.data.config import DataConfig
from tinyslm.planning import probe as probing
from tinyslm.planning.compressibility import context_bits, xz_bits
from tinyslm.planning.probe import probe
from tinyslm.planning.survey import Survey, survey_shards, survey_text
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.tokenizer.training import train_tokenizer

ALONE = DataConfig(workers=1)
LETTERS = "abcdefghijklmnop"  # four bits each, where they are drawn at random


@pytest.fixture(autouse=True)
def short_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty updates tell easy text from hard text as well."""
    monkeypatch.setattr(probing, "STEPS", 30)


def survey(path: Path, **options) -> Survey:
    return survey_text([str(path)], options.pop("config", ALONE), **options)


def random_documents(count: int, length: int) -> list[bytes]:
    dice = random.Random(1)
    return ["".join(dice.choices(LETTERS, k=length)).encode() for _ in range(count)]


def test_random_letters_cannot_be_predicted_and_repetition_can() -> None:
    documents = random_documents(100, 10_000)
    assert xz_bits(documents) == pytest.approx(4, rel=0.1)
    assert context_bits(documents) == pytest.approx(4, rel=0.1)
    same = [b"to be, or not to be: that is the question. " * 200] * 100
    assert xz_bits(same) < 0.01
    assert context_bits(same) < 0.2


def test_what_repeats_within_a_document_is_found_by_xz_alone() -> None:
    dice = random.Random(2)
    documents = []
    for _ in range(50):
        lines = ["".join(dice.choices(LETTERS, k=40)) for _ in range(8)]
        documents.append(" ".join(dice.choices(lines, k=400)).encode())
    assert xz_bits(documents) < 0.5
    assert context_bits(documents) > 3


def test_a_probe_tells_hard_text_from_easy_text_and_leaves_chance_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    letters = random_documents(100, 1_000)
    question = [b"to be, or not to be: that is the question. " * 200] * 10
    assert probe(letters[20:], letters[:20]) == pytest.approx(4, rel=0.05)
    same = probe(question, question[:1])
    assert same < 0.5
    assert probe(question, question[:1]) == same
    assert probe(question, [b"QUITE OTHER 0123456789 TEXT " * 100]) > 4
    assert torch.equal(torch.get_rng_state(), before)
    assert probe([b"short"], [b"s"]) > 0


def test_the_probe_is_asked_about_what_is_held_out(tmp_path) -> None:
    same, other = sentences(4000), "".join(random.Random(3).choices("0123456789", k=len(sentences(200))))
    (tmp_path / "same.txt").write_text(same + sentences(200, seed=7))
    (tmp_path / "other.txt").write_text(same + other)
    assert survey(tmp_path / "other.txt").probe_bits > 2 * survey(tmp_path / "same.txt").probe_bits


def test_a_small_sample_is_carried_on_to_a_large_one() -> None:
    text = [sentences(40, seed=number).encode() for number in range(200)]
    whole, part = xz_bits(text), xz_bits(text[:50])
    assert part == pytest.approx(whole, rel=0.15)


def test_repeated_documents_are_counted_once(tmp_path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(sentences(30, seed=number % 20))
    found = survey(tmp_path)
    assert found.documents == 20
    assert found.bytes == 2 * found.unique_bytes
    assert found.training_bytes == pytest.approx(0.95 * found.unique_bytes, rel=0.01)


def test_each_vocabulary_that_the_text_supports_is_measured(tmp_path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(sentences(200, seed=number))
    lengths = survey(tmp_path).bytes_per_token
    assert lengths[320] == pytest.approx(1, abs=0.01)
    assert list(lengths) == sorted(lengths)
    assert list(lengths.values()) == sorted(lengths.values())
    assert 16384 not in lengths


def test_tokens_in_an_end_of_another_kind_are_shorter(tmp_path) -> None:
    (tmp_path / "a.txt").write_text(sentences(4000) + "".join(random.Random(3).choices(LETTERS, k=9000)))
    found = survey(tmp_path, wanted=TokenizerConfig(vocab_size=512))
    assert found.bytes_in_token(512, held_out=True) < 0.7 * found.bytes_in_token(512)


def test_documents_held_out_by_lot_are_of_the_same_kind(tmp_path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(sentences(50, seed=number))
    found = survey(tmp_path)
    assert not found.held_out_bytes_per_token
    assert found.bytes_in_token(320, held_out=True) == found.bytes_in_token(320)


def test_a_tokenizer_that_is_given_or_wanted_is_the_only_one(tmp_path) -> None:
    (tmp_path / "a.txt").write_text(sentences(300))
    given = train_tokenizer([sentences(300, seed=5)], kind="char")
    assert list(survey(tmp_path, tokenizer=given).bytes_per_token) == [given.vocab_size]
    of_wanted = survey(tmp_path, wanted=TokenizerConfig(vocab_size=320)).bytes_per_token
    assert list(of_wanted) == [320]
    assert of_wanted[320] > 1.5  # merges, not bytes
    assert list(survey(tmp_path, wanted=TokenizerConfig(vocab_size=9000)).bytes_per_token) == [9024]
    assert list(survey(tmp_path, wanted=TokenizerConfig(kind="byte")).bytes_per_token) == [320]


def test_shards_are_surveyed_as_their_text_is(shards, text_file) -> None:
    of_shards, of_text = survey_shards(shards), survey(text_file)
    assert of_shards.unique_bytes == of_text.unique_bytes
    assert list(of_shards.bytes_per_token) == [320]
    assert of_shards.xz_bits == pytest.approx(of_text.xz_bits, rel=0.25)
    assert of_shards.seconds == 0


def test_vocabularies_between_are_in_between(tmp_path) -> None:
    found = Survey(
        bytes=9, unique_bytes=9, training_bytes=9, held_out_bytes=0, documents=1, seconds=0, xz_bits=1, context_bits=1,
        probe_bits=1, probed_bytes=9, probing_seconds=0, bytes_per_token={320: 1.0, 1280: 3.0},
    )  # fmt: skip
    assert found.bytes_in_token(640) == pytest.approx(2.0)
    assert found.bytes_in_token(99) == 1.0
    assert found.bytes_in_token(9999) == 3.0


def test_too_little_text(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("short")
    with pytest.raises(TinyslmError, match="too little text"):
        survey(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(TinyslmError, match="No text was found"):
        survey(tmp_path)
