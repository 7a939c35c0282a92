"""The chapter on prediction: its numbers are those of transformers, its filters those of the engine."""

from pathlib import Path

import numpy as np
import pytest
import torch
from course_pages import PAGES, SENTENCE, data_of
from transformers import AutoModelForCausalLM

from tinyslm.compression.config import QuantizeConfig
from tinyslm.compression.quantizing import quantize
from tinyslm.course.chapters.prediction import prompts
from tinyslm.course.subject import Subject
from tinyslm.course.writing import chapter_page
from tinyslm.inference.sampler import SamplingBatch, filtered_probabilities
from tinyslm.inference.settings import SamplingSettings
from tinyslm.tokenizer.shown import face


def test_the_logits_are_those_of_transformers(subject: Subject) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(subject.folder, dtype=torch.float32)
    logits_tv = theirs(torch.tensor([list(subject.ids)])).logits[0].detach()
    found = prompts(subject)["places"]
    assert [place["after"] for place in found] == list(range(1, len(subject.ids) + 1))
    for place, logits_v in zip(found, logits_tv, strict=True):
        assert place["logits"] == pytest.approx(logits_v.sort(descending=True).values.tolist(), abs=1e-4)
        if place["after"] < len(subject.ids):
            rank, name = place["next"]
            assert name == face(subject.tokens[place["after"]])
            following = subject.ids[place["after"]]
            assert place["logits"][rank] == pytest.approx(float(logits_v[following]), abs=1e-4)
    assert found[-1]["next"] is None


def test_of_a_large_vocabulary_some_places_are_shown(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyslm.course.chapters.prediction.MOST_LOGITS", 3 * subject.tokenizer.vocab_size)
    cuts = [place["after"] for place in prompts(subject)["places"]]
    assert len(cuts) == 3
    assert cuts[-1] == len(subject.ids)


def test_a_quantized_model_has_a_course(subject: Subject, tmp_path: Path) -> None:
    quantize(subject.folder, tmp_path / "small", QuantizeConfig(scheme="int8", method="rtn", judge_tokens=200))
    small = Subject.open(tmp_path / "small", SENTENCE)
    ours, theirs = (prompts(one)["places"][-1]["logits"] for one in (small, subject))
    assert ours != theirs
    assert ours == pytest.approx(theirs, abs=0.2)


@pytest.mark.parametrize("text", [" statements", "statements", "a  b "])
def test_sentences_of_few_words_have_a_chapter(run: Path, text: str) -> None:
    assert "Why a prompt should not end in a space" in chapter_page(Subject.open(run, text), "prediction")


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.4},
        {"top_k": 7},
        {"top_p": 0.35},
        {"min_p": 0.2, "temperature": 1.5},
        {"top_k": 9, "top_p": 0.8},
    ],
)
def test_the_sliders_filter_as_the_engine_does(reader, changes: dict) -> None:
    page = reader.open(PAGES["prediction"])
    logits = np.array(data_of(page, "sampling")["places"][-1]["logits"], np.float32)
    given = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **changes}
    names = {"temperature": "temperature", "top_k": "topK", "top_p": "topP", "min_p": "minP"}
    settings = {names[key]: value for key, value in given.items()}
    theirs = page.evaluate("([logits, settings]) => filtered(logits, settings)", [logits.tolist(), settings])
    weights = filtered_probabilities(logits, SamplingBatch.of([SamplingSettings(**given)], [0.0]), 0)
    assert theirs == pytest.approx((weights / weights.sum()).tolist(), abs=1e-6)


def test_moving_a_slider_changes_the_bars(reader) -> None:
    page = reader.open(PAGES["prediction"])
    assert "448 of 448 tokens" in page.locator(".said").first.text_content()
    slider = page.get_by_label("top-k")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator(".said").first.text_content().startswith("3 of 448 tokens can be chosen.")
    page.get_by_role("button").press("Enter")
    assert page.locator(".said").last.text_content().startswith("Drawn: ")


def test_the_first_slider_cuts_the_sentence(reader, subject: Subject) -> None:
    page = reader.open(PAGES["prediction"])
    page.get_by_label("after token").press("Home")
    assert page.locator(".sentence strong").text_content() == face(subject.tokens[0])
    place = data_of(page, "sampling")["places"][0]
    names = page.locator(".bars th").all_text_contents()
    assert [name.removesuffix(" ← next") for name in names[:12]] == place["faces"]
    assert f"goes on with {face(subject.tokens[1])}" in page.locator(".said").first.text_content()
