"""The chapter on embeddings: its neighbours and its map are those of the weights that transformers reads."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from course_pages import PAGES, data_of
from transformers import AutoModelForCausalLM

from tinyslm.course.chapters.embeddings import space
from tinyslm.course.subject import Subject


def test_neighbours_and_map_are_those_of_the_weights(subject: Subject) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(subject.folder, dtype=torch.float32)
    table_vd = theirs.get_input_embeddings().weight.detach().double().numpy()
    found = space(subject)
    unit_vd = table_vd / np.linalg.norm(table_vd, axis=1, keepdims=True)
    last = found["states"][-1]
    for token, near in zip(found["tokens"], last["near"], strict=True):
        cosines = unit_vd @ unit_vd[token]
        cosines[token] = -2
        assert near[1::2] == pytest.approx(np.sort(cosines)[::-1][:8].tolist(), abs=1e-4)
        assert near[1::2] == pytest.approx(cosines[near[::2]].tolist(), abs=1e-4)
    points = table_vd[found["tokens"][: found["mapped"]]]
    variances, directions = np.linalg.eigh(np.cov(points.T))
    shares = variances[::-1][:2] / variances.sum()
    assert last["shares"] == pytest.approx(shares.tolist(), abs=1e-4)
    places = (points - points.mean(0)) @ directions[:, ::-1][:, :2]
    assert np.abs(last["points"]) == pytest.approx(np.abs(places), abs=1e-4)


def test_the_map_begins_with_random_numbers(subject: Subject) -> None:
    found = space(subject)
    first, last = found["states"][0], found["states"][-1]
    assert [state["step"] for state in found["states"]] == [step for step, _ in subject.snapshots]
    assert np.std(first["points"]) < np.std(last["points"]), "training spreads the tokens along the axes"
    assert np.mean([near[1] for near in first["near"]]) < np.mean([near[1] for near in last["near"]])


def test_without_snapshots_more_tokens_are_listed(subject: Subject) -> None:
    found = space(replace(subject, run=None))
    assert len(found["states"]) == 1
    assert found["mapped"] <= len(found["tokens"])
    assert found["states"][0]["step"] is None


def test_a_token_is_searched_and_its_neighbours_are_listed(reader) -> None:
    page = reader.open(PAGES["embeddings"])
    data = data_of(page, "space")
    page.get_by_label("search").fill("the")
    chosen = page.get_by_role("combobox", name="token")
    options = chosen.locator("option").all_text_contents()
    assert options == [face for one in data["tokens"] if "the" in (face := data["faces"][str(one)]).lower()]
    chosen.select_option(label=options[-1])
    token = next(one for one in data["tokens"] if data["faces"][str(one)] == options[-1])
    for number in (0, len(data["states"]) - 1):
        page.get_by_label("updates").press("Home" if number == 0 else "End")
        near = data["states"][number]["near"][data["tokens"].index(token)]
        shown = page.locator('[data-widget="space"] tbody th').all_text_contents()
        assert shown == [data["faces"][str(one)] for one in near[::2]]
    assert options[-1] in page.locator("svg.map").get_attribute("aria-label")
    assert page.locator("svg.map .chosen").count() == 2
