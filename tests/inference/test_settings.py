"""Which settings are in force: the request's, then the model's, then those that suit small models."""

import json
from pathlib import Path

import pytest

from tinyslm.agents.agent import Agent
from tinyslm.batch.prompts import PromptTemplate, RequestBuilder
from tinyslm.core.errors import TinyslmError
from tinyslm.data.rows import Row
from tinyslm.inference.opening import open_engine
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.inference.settings import SamplingSettings, read_default_sampling
from tinyslm.model.folder import save_model
from tinyslm.serving.prompting import sampling_settings
from tinyslm.serving.schemas.texts import CompletionBody


def in_force(settings: SamplingSettings) -> tuple[float, ...]:
    return settings.temperature, settings.top_k, settings.top_p, settings.min_p, settings.repetition_penalty


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (None, (0.7, 0, 1.0, 0.05, 1.0)),
        ({"eos_token_id": 2}, (0.7, 0, 1.0, 0.05, 1.0)),
        ({"do_sample": True}, (0.7, 0, 1.0, 0.05, 1.0)),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20}, (0.6, 20, 0.95, 0.0, 1.0)),
        ({"top_p": 0.8}, (1.0, 0, 0.8, 0.0, 1.0)),
        ({"repetition_penalty": 1.1}, (0.7, 0, 1.0, 0.05, 1.1)),
        ({"temperature": None, "top_k": -1}, (1.0, 0, 1.0, 0.0, 1.0)),
        ({"do_sample": False, "temperature": 0.6}, (0.0, 0, 1.0, 0.0, 1.0)),
    ],
)
def test_what_the_model_says_else_what_suits_small_models(tmp_path: Path, said, wanted) -> None:
    if said is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(said))
    assert in_force(read_default_sampling(tmp_path)) == wanted


@pytest.mark.parametrize("said", [{"temperature": "hot"}, {"top_p": 7}, {"top_k": "many"}, []])
def test_what_a_model_cannot_say(tmp_path: Path, said) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(said))
    with pytest.raises(TinyslmError, match=r"generation_config\.json"):
        read_default_sampling(tmp_path)


@pytest.fixture
def engine(make_engine, tmp_path: Path):
    made = make_engine()
    save_model(made.model, tmp_path / "model", made.tokenizer)
    file = tmp_path / "model" / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "temperature": 0.3, "top_p": 0.9}))
    return open_engine(tmp_path / "model")


def test_it_is_the_same_for_everybody(engine) -> None:
    usual = (0.3, 0, 0.9, 0.0, 1.0)
    asked, row = SamplingSettings(top_k=5), Row(1, {"prompt": "a"})
    assert in_force(engine.completion_request("a").settings) == usual
    assert in_force(engine.completion_request("a", asked).settings) == (0.3, 5, 0.9, 0.0, 1.0)
    assert in_force(RequestBuilder(engine, PromptTemplate()).build(row)[1].settings) == usual
    assert in_force(sampling_settings(CompletionBody(model="m"), engine)) == usual
    given = CompletionBody(model="m", temperature=1.5, min_p=0.1, max_tokens=7)
    assert in_force(sampling_settings(given, engine, 7)) == (1.5, 0, 0.9, 0.1, 1.0)
    assert in_force(Agent(engine).model.settings) == (0.0, 0, 0.9, 0.0, 1.0)  # an agent is to be right


def test_rows_with_a_schema_are_answered_with_the_likeliest(engine) -> None:
    def temperature(values: dict | None = None, **template) -> float:
        row = Row(1, {"prompt": "a", **(values or {})})
        return RequestBuilder(engine, PromptTemplate(**template)).build(row)[1].settings.temperature

    schema, warm = OutputConstraint("schema", {"type": "object"}), SamplingSettings(temperature=0.9)
    assert temperature(constraint=schema) == 0
    assert temperature({"schema": {"type": "object"}}) == 0
    assert temperature({"temperature": 0.5}, constraint=schema) == 0.5
    assert temperature(constraint=schema, sampling=warm) == 0.9
    assert temperature(constraint=OutputConstraint("choice", ["a", "b"])) == 0.3


@pytest.mark.parametrize("given", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 0.0, "temperature": 2.0}])
def test_settings_that_take_the_likeliest(engine, given) -> None:
    wanted = engine.complete("abc", SamplingSettings(max_tokens=8, temperature=0))[0]
    assert {one.text for one in engine.complete("abc", SamplingSettings(max_tokens=8, **given), n=3)} == {wanted.text}
    body = CompletionBody(model="m", **given)
    assert sampling_settings(body, engine).greedy
