"""The chapter on prediction: its numbers are those of transformers, its filters those of the engine."""

import numpy as np
import pytest
import torch
from course_pages import PAGES, data_of
from transformers import AutoModelForCausalLM

from tinyslm.course.chapters.prediction import distribution
from tinyslm.course.subject import Subject
from tinyslm.inference.sampler import SamplingBatch, filtered_probabilities
from tinyslm.inference.settings import SamplingSettings


def test_the_logits_are_those_of_transformers(subject: Subject) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(subject.folder, dtype=torch.float32)
    logits_v = theirs(torch.tensor([list(subject.ids)])).logits[0, -1].detach()
    found = distribution(subject, subject.ids)
    assert found["logits"] == pytest.approx(logits_v.sort(descending=True).values.tolist(), abs=1e-4)


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
    logits = np.array(data_of(page, "sampling")["logits"], np.float32)
    given = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **changes}
    names = {"temperature": "temperature", "top_k": "topK", "top_p": "topP", "min_p": "minP"}
    settings = {names[key]: value for key, value in given.items()}
    theirs = page.evaluate("([logits, settings]) => filtered(logits, settings)", [logits.tolist(), settings])
    weights = filtered_probabilities(logits, SamplingBatch.of([SamplingSettings(**given)], [0.0]), 0)
    assert theirs == pytest.approx((weights / weights.sum()).tolist(), abs=1e-6)


def test_moving_a_slider_changes_the_bars(reader) -> None:
    page = reader.open(PAGES["prediction"])
    assert "448 of 448 tokens" in page.locator(".said").text_content()
    slider = page.get_by_label("top-k")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator(".said").text_content() == "3 of 448 tokens can be chosen."
