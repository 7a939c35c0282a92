"""From rows to requests."""

import pytest

from tinyslm.batch.prompts import MissingColumn, PromptTemplate, RequestBuilder
from tinyslm.core.errors import TinyslmError
from tinyslm.data.rows import Row
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.inference.settings import SamplingSettings

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@pytest.fixture
def request_of(engine):
    """The request that a row becomes: `request_of({"prompt": "a"}, column="x")`."""

    def make(values, number=1, **template):
        return RequestBuilder(engine, PromptTemplate(**template)).build(Row(number, values))[1]

    return make


@pytest.fixture
def text_of(engine, request_of):
    """The text of a row's prompt, with special tokens."""
    return lambda values, **template: engine.tokenizer.decode(request_of(values, **template).prompt_ids)


def test_a_prompt_is_continued(request_of, engine):
    made = request_of({"prompt": "Once"})
    assert made.prompt_ids == engine.prompt_ids("Once")
    assert made.grammar is None
    assert made.heal
    assert not request_of({"prompt": "Once"}, heal=False).heal
    assert not request_of({"prompt": "Once"}, chat=True).heal


def test_templates_use_the_columns(text_of):
    values = {"name": "tea", "price": 2.5, "the size": "large", "evil": "{{ name }}"}
    template = "{{ name|upper }} {{ price }} {{ row['the size'] }} {{ evil }}\n\n"
    assert text_of(values, template=template) == "TEA 2.5 large {{ name }}\n"
    assert text_of(values, template="{% if old is defined %}{{ old }}{% else %}none{% endif %}") == "none"


@pytest.mark.parametrize("template", ["{{ nothing }}", "{{ name }} {{ nothing|upper }}"])
def test_a_missing_column_is_named(request_of, template):
    with pytest.raises(MissingColumn, match="'nothing' is undefined"):
        request_of({"name": {"a": 1}}, template=template)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ name", "not valid Jinja"),
        ("{{ ''.__class__.__mro__ }}", "template failed|uses a name that the row does not have"),
        ("{{ 1 / 0 }}", "template failed: division by zero"),
        ("{% include '/etc/passwd' %}", "template failed"),
        ("{{ range(100001) }}", r"template failed: .*\(100000\)\.(?!\.)"),
    ],
)
def test_templates_that_fail(request_of, template, expected):
    with pytest.raises(TinyslmError, match=expected):
        request_of({"name": "a"}, template=template)


def test_a_column_is_the_prompt(text_of, request_of):
    assert text_of({"text": "Tea", "n": 1}, column="text") == "Tea"
    assert text_of({"n": 12}, column="n") == "12"
    assert text_of({"text": "a line"}) == "a line"
    with pytest.raises(MissingColumn, match='has no "txet"') as caught:
        request_of({"text": "a"}, column="txet")
    assert "text" in caught.value.remedy
    with pytest.raises(TinyslmError, match='"tags" is not text'):
        request_of({"tags": ["a"]}, column="tags")


def test_a_chat_message_is_answered(engine, request_of):
    said = [{"role": "user", "content": "Hi"}]
    for values, template in [({"prompt": "Hi"}, {"chat": True}), ({"messages": said}, {})]:
        made = request_of(values, **template)
        assert made.prompt_ids == engine.chat_ids(said)
        assert not made.continues
    system = [{"role": "system", "content": "Be short."}]
    assert request_of({"prompt": "Hi"}, system="Be short.").prompt_ids == engine.chat_ids(system + said)
    assert request_of({"messages": said}, system="Be short.").prompt_ids == engine.chat_ids(system + said)
    own = request_of({"prompt": "Hi", "system": "Be short."}, system="Be long.")
    assert own.prompt_ids == engine.chat_ids(system + said)


def test_a_row_has_settings_of_its_own(request_of):
    common = SamplingSettings(max_tokens=7, temperature=0.5, seed=100)
    plain = request_of({"prompt": "a"}, number=3, sampling=common)
    assert plain.settings == common.model_copy(update={"seed": 102})
    own = request_of({"prompt": "a", "max_tokens": 3, "seed": 5, "stop": "x", "top_p": None}, sampling=common)
    assert own.settings == common.model_copy(update={"max_tokens": 3, "seed": 5, "stop": ("x",)})
    with pytest.raises(TinyslmError, match="temperature"):
        request_of({"prompt": "a", "temperature": -1})


def test_columns_are_data_where_a_template_makes_the_prompt(request_of):
    made = request_of({"prompt": "a", "temperature": "36.6", "schema": 1}, template="{{ temperature }}")
    assert made.settings == SamplingSettings()
    assert made.grammar is None


@pytest.mark.parametrize(
    "own", [{"schema": NUMBER}, {"schema": '{"type": "integer"}'}, {"regex": "[0-9]+"}, {"choice": ["1", "2"]}]
)
def test_a_row_may_bring_a_constraint(request_of, own):
    grammar = request_of({"prompt": "a", **own}, constraint=OutputConstraint("choice", ["never"])).grammar
    assert grammar is not None
    assert (
        grammar.what != request_of({"prompt": "a"}, constraint=OutputConstraint("schema", NUMBER)).grammar.what
        or "schema" in own
    )


def test_equal_constraints_are_compiled_once(engine):
    builder = RequestBuilder(engine, PromptTemplate(constraint=OutputConstraint("schema", NUMBER)))
    rows = [Row(1, {"prompt": "a"}), Row(2, {"prompt": "a", "schema": dict(NUMBER)})]
    assert builder.build(rows[0])[1].grammar is builder.build(rows[1])[1].grammar


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"title": "a"}, 'no "prompt", "messages" or "text"'),
        ({"messages": "Hi"}, "not a list of messages"),
        ({"prompt": None}, '"prompt" is not text'),
        ({"prompt": "a", "schema": "/etc/passwd"}, "schema is not a JSON object"),
        ({"prompt": "a", "schema": 5}, "schema is not a JSON object"),
        ({"prompt": "a", "choice": "b"}, "choice is not a list"),
        ({"prompt": "a", "regex": "a", "choice": ["b"]}, "has a regex and a choice"),
        ({"prompt": "a", "regex": "("}, "regular expression cannot be used"),
    ],
)
def test_invalid_rows(request_of, values, expected):
    with pytest.raises(TinyslmError, match=expected):
        request_of(values)


def test_a_template_and_a_column_exclude_each_other():
    with pytest.raises(TinyslmError, match="exclude each other"):
        PromptTemplate(template="a", column="b")
