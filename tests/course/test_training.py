"""The chapter on training: losses, gradients and probabilities are those of transformers; the quiz can be solved."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from course_pages import PAGES, data_of
from torch.nn import functional
from transformers import AutoModelForCausalLM

from tinyslm.course.chapters.training import (
    QUIZ,
    RATES,
    fault_runs,
    gradient_norm,
    loss_and_gradients,
    loss_curve,
    losses_after,
    snapshot_views,
)
from tinyslm.course.faults import FAULTS
from tinyslm.course.subject import Subject
from tinyslm.training.metrics import read_metrics

LESSONS = Path(__file__).parents[2] / "lessons"


@pytest.fixture(scope="module")
def theirs(subject: Subject) -> AutoModelForCausalLM:
    return AutoModelForCausalLM.from_pretrained(subject.folder, dtype=torch.float32, attn_implementation="eager")


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    """`lessons/faults.py` as a module."""
    sys.path.insert(0, str(LESSONS))
    try:
        spec = importlib.util.spec_from_file_location("faults", LESSONS / "faults.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["faults"] = module  # for its dataclasses
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(LESSONS))
    yield module
    del sys.modules["faults"], sys.modules["tiny"]


def test_loss_gradient_and_step_are_those_of_transformers(subject: Subject, theirs) -> None:
    ids = torch.tensor([list(subject.ids)])
    loss = theirs(ids, labels=ids).loss
    loss.backward()
    found, gradients = loss_and_gradients(subject)
    assert found == pytest.approx(loss.item(), abs=1e-4)
    norm = torch.nn.utils.get_total_norm([one.grad for one in theirs.parameters()])
    assert gradient_norm(gradients) == pytest.approx(norm.item(), rel=1e-4)
    with torch.no_grad():
        for one in theirs.parameters():
            one.sub_(one.grad, alpha=RATES[4])
        after = theirs(ids, labels=ids).loss.item()
        for one in theirs.parameters():
            one.add_(one.grad, alpha=RATES[4])
    assert losses_after(subject, gradients)[4] == pytest.approx(after, abs=1e-4)
    assert loss_and_gradients(subject)[0] == found, "the model is left as it was"


def test_snapshots_go_from_guessing_to_the_model(subject: Subject, theirs) -> None:
    views = snapshot_views(subject)["snapshots"]
    assert [one["step"] for one in views] == [step for step, _ in subject.snapshots]
    ids = torch.tensor(list(subject.ids))
    with torch.no_grad():
        shares = theirs(ids[None]).logits[0, :-1].softmax(-1).gather(1, ids[1:, None])[:, 0]
    assert views[-1]["shares"] == pytest.approx(shares.tolist(), abs=1e-4)
    assert views[-1]["loss"] == pytest.approx(functional.nll_loss(shares.log()[:, None], 0 * ids[1:]).item(), abs=1e-4)
    assert max(views[0]["shares"]) < 0.1
    assert len({one["sample"] for one in views}) > 1


def test_the_curve_is_that_of_the_log(subject: Subject) -> None:
    rows = [row for row in read_metrics(subject.run.metrics_file) if row["event"] == "step"]
    training = loss_curve(subject)["series"][0]
    assert training["x"] == [row["step"] for row in rows]
    assert training["y"] == [row["loss"] for row in rows]


def test_the_slider_moves_through_the_snapshots(reader) -> None:
    page = reader.open(PAGES["training"])
    widget = page.locator('[data-widget="snapshots"]')
    data = data_of(page, "snapshots")
    widget.get_by_role("slider").focus()
    page.keyboard.press("Home")
    assert "Before the first update" in widget.locator(".said").text_content()
    assert widget.locator(".token-view li").count() == len(data["faces"])
    page.keyboard.press("End")
    assert "After 20 updates" in widget.locator(".said").text_content()
    assert widget.locator("pre").text_content() == data["prompt"] + data["snapshots"][-1]["sample"]


def test_the_quiz_says_what_is_right_and_why(reader) -> None:
    page = reader.open(PAGES["training"])
    quiz = page.locator('[data-widget="quiz"]')
    runs = {one["letter"]: one for one in data_of(page, "quiz")["runs"]}
    assert list(runs) == sorted(QUIZ)
    picker = quiz.get_by_label("Run A is")
    picker.focus()
    names = list(FAULTS)
    picker.select_option(names[runs["A"]["answer"] - 1])
    card = quiz.get_by_label("Run A", exact=True)
    assert card.locator(".verdict").text_content() == f"✗ Wrong. {runs['A']['hint']}"
    picker.select_option(names[runs["A"]["answer"]])
    assert card.locator(".verdict").text_content() == f"✓ Right. {runs['A']['why']}"
    assert "1 of 7" in quiz.locator(".controls [role=status]").text_content()
    quiz.get_by_role("button").press("Enter")
    assert "7 of 7" in quiz.locator(".controls [role=status]").text_content()


def test_the_stored_runs_show_what_the_explanations_say() -> None:
    runs = fault_runs()["runs"]
    assert list(runs) == list(FAULTS)
    end = {name: run["losses"][-1] for name, run in runs.items()}
    healthy = runs["healthy"]
    guessing = math.log(fault_runs()["shape"]["vocab_size"])
    assert all(run["past"] > healthy["past"] for name, run in runs.items() if name not in ("healthy", "no warm-up"))
    assert end["no mask"] < min(loss for name, loss in end.items() if name != "no mask") - 1
    assert runs["no mask"]["past"] > guessing
    assert max(runs["learning rate too high"]["losses"]) > guessing + 1
    assert min(runs["learning rate too low"]["losses"][:20]) > guessing - 0.1
    assert runs["no warm-up"]["losses"][2] < healthy["losses"][2] - 0.5
    assert runs["no residual"]["gradients"][-1] < 0.6 * healthy["gradients"][-1]
    assert runs["no norm"]["gradients"][0] < 0.05 * healthy["gradients"][0]
    assert max(runs["no norm"]["gradients"]) > 10 * max(healthy["gradients"])
    for name, run in runs.items():
        if name != "no mask":
            assert run["whole"] == pytest.approx(run["past"], abs=1e-3), name


def test_faults_change_what_they_are_called_after(faults, monkeypatch) -> None:
    """Two updates of each run: what is masked, normed and added; and how the learning rate begins and ends."""
    for name, value in {"WIDTH": 64, "DEPTH": 1, "CONTEXT": 16, "WRITTEN": 2}.items():
        monkeypatch.setattr(faults, name, value)
    assert list(faults.RUNS) == list(FAULTS)
    ids = torch.randint(40, (400,))
    tokenizer = faults.tiny.Tokenizer([bytes([one]) for one in range(256)], [])
    found = {name: faults.record(run, tokenizer, ids, ids, 2) for name, run in faults.RUNS.items()}
    healthy = found["healthy"]
    assert all(len(one.losses) == len(one.gradients) for one in found.values())
    assert healthy.losses[0] == found["learning rate too high"].losses[0] == found["no warm-up"].losses[0]
    assert healthy.whole == pytest.approx(healthy.past, abs=1e-3)
    for name in ("no norm", "no residual", "no mask"):
        assert found[name].whole != healthy.whole, name
    assert found["no mask"].whole != pytest.approx(found["no mask"].past, abs=1e-5)
    rates = {name: [faults.learning_rate(run, step, 100) for step in (0, 20, 99)] for name, run in faults.RUNS.items()}
    assert rates["healthy"] == pytest.approx([faults.RATE / 10, faults.RATE, faults.RATE / 60])
    assert rates["no warm-up"][0] == faults.RATE
    assert rates["learning rate too low"][1] < faults.RATE < rates["learning rate too high"][1]
