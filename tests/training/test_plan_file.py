"""The plan as a file: what is written is read again, edits count, mistakes are told."""

import tomllib

import pytest
from planned import MACHINE, text

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.planning.choice import Budget, Search
from tinyslm.planning.law import read_law
from tinyslm.planning.plan import Plan, plan_of, read_plan
from tinyslm.training.config import RunConfig

LAW = read_law()


def planned(given=None, **budget) -> Plan:
    survey = text(20)
    choice = Search(survey, MACHINE, LAW, given or {}).choose(Budget(**(budget or {"minutes": 5})))
    return Plan.of(choice, survey, MACHINE)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "plan.toml"


@pytest.mark.parametrize(
    ("given", "budget"),
    [
        ({}, {"minutes": 5}),
        ({}, {"minutes": 0.5, "tokens": 10_000}),
        ({}, {"tokens": 1_000_000}),
        ({"model": {"family": "gemma3", "heads": 4, "dim": 256}}, {"minutes": 2}),
        ({"tokenizer": {"kind": "byte"}, "data": {"valid_paths": ["a \"b\\c'.txt"]}}, {"minutes": 2}),
        ({"model": {"rope_scaling": {"kind": "linear", "factor": 2}}, "train": {"sinks": ["trackio"]}}, {"minutes": 2}),
    ],
)
def test_what_is_written_is_read_again(file, given, budget) -> None:
    plan = planned(given, **budget)
    plan.write(file)
    assert read_plan(file) == plan


def test_the_file_names_what_matters_and_what_was_given_but_nothing_that_follows(file) -> None:
    planned({"model": {"norm_eps": 1e-5}}).write(file)
    settings = tomllib.loads(file.read_text())["settings"]
    assert {"dim", "depth", "context", "dropout", "norm_eps"} == set(settings["model"])
    assert settings["train"]["minutes"] == 5
    assert "steps" not in settings["train"]
    assert "heads" not in file.read_text()


def test_an_edit_counts_and_what_follows_from_it_does_too(file) -> None:
    plan = planned({"model": {"dim": 512, "depth": 8}})  # large enough to need more memory than planning does
    plan.write(file)
    before = f"depth = {plan.settings.model.depth} "
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, f"depth = {plan.settings.model.depth + 3} "))
    edited = read_plan(file)
    assert edited.settings.model.depth == plan.settings.model.depth + 3
    assert edited.expectation.parameters == edited.settings.model.parameters > plan.expectation.parameters
    assert edited.expectation.steps < plan.expectation.steps
    assert edited.expectation.memory_bytes > plan.expectation.memory_bytes


def test_another_vocabulary_changes_the_model(file) -> None:
    planned({"tokenizer": {"kind": "bpe", "vocab_size": 2048}}).write(file)
    file.write_text(file.read_text().replace("vocab_size = 2048", "vocab_size = 4096"))
    assert read_plan(file).settings.model.vocab_size == 4096


def test_changes_take_the_place_of_what_the_plan_says(file) -> None:
    plan = planned()
    plan.write(file)
    changed = read_plan(file, {"train": {"steps": 7}, "optimizer": {"lr": "0.5"}})
    assert (changed.settings.train.steps, changed.settings.train.minutes) == (7, None)
    assert changed.expectation.steps == 7
    assert changed.settings.optimizer.lr == 0.5
    assert changed.budget == Budget(tokens=changed.expectation.tokens)
    assert plan.budget == Budget(minutes=5)


def test_expectations_are_worked_out_again_whatever_stands_there(file) -> None:
    plan = planned()
    plan.write(file)
    file.write_text(file.read_text().replace(f"parameters = {plan.expectation.parameters}", "parameters = 1"))
    assert read_plan(file) == plan


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("batch = ", "bacth = 3\nbatch = ", 'there is no setting "train.bacth" (Did you mean "train.batch"?)'),
        ("weight_decay = ", "weight_decay = -", "optimizer.weight_decay = -0.1: must be greater than or equal to 0"),
        ("context = ", "context = 'wide'\n#", "model.context = wide: must be a whole number"),
        ("[machine]", "[machines]", "it has no section [machine]"),
        ("xz_bits = ", "xy_bits = ", 'there is no setting "data.xy_bits"'),
        ("[settings.model]", "[settings.model", "is not valid TOML"),
    ],
)
def test_mistakes_in_a_plan_are_told(file, before, after, expected) -> None:
    planned().write(file)
    content = file.read_text()
    assert before in content
    file.write_text(content.replace(before, after, 1))
    with pytest.raises(TinyslmError) as mistake:
        read_plan(file)
    assert expected in mistake.value.problem


def test_a_file_of_settings_is_no_plan(file) -> None:
    file.write_text("[model]\ndim = 64\n")
    with pytest.raises(TinyslmError, match=r"is not a plan: it has no section \[settings\]"):
        read_plan(file)


def test_a_run_folder_may_have_a_plan(tmp_path, file) -> None:
    assert plan_of(tmp_path) is None
    planned().write(file)
    plan = plan_of(tmp_path)
    assert plan.settings.train.minutes == 5
    file.write_text("broken")
    assert plan_of(tmp_path) is None


def test_settings_of_a_plan_are_settings_of_a_run() -> None:
    settings = planned().settings
    assert build_config(RunConfig, settings.model_dump()) == settings
