"""OpenAI's batch format: the answers are those of the server."""

import json

import pytest

from tinyslm.batch.job import BatchJob, _results, run_batch
from tinyslm.batch.prompts import PromptTemplate
from tinyslm.core.errors import TinyslmError
from tinyslm.data.rows import Rows
from tinyslm.inference.settings import SamplingSettings
from tinyslm.serving.app import engine_app

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 99, "minimum": 0}}, "required": ["n"],
          "additionalProperties": False}  # fmt: skip
HI = [{"role": "user", "content": "Hi"}]


def line(number: int, url: str = "/v1/chat/completions", method: str = "POST", **body) -> dict:
    if url.endswith("/chat/completions"):
        body = {"messages": HI, **body}
    body = {"model": "gpt-of-others", "temperature": 0, "max_tokens": 5, **body}
    return {"custom_id": f"task-{number}", "method": method, "url": url, "body": body}


@pytest.fixture
def answered(engine, tmp_path):
    """The output's lines for lines given."""

    def run(*lines, concurrency=3):
        source = tmp_path / "in.jsonl"
        source.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
        summary = run_batch(
            engine,
            "m",
            BatchJob(
                str(source), tmp_path / "out.jsonl", PromptTemplate(), concurrency=concurrency, open_app=engine_app
            ),
        )
        return summary, [json.loads(one) for one in (tmp_path / "out.jsonl").read_text().splitlines()]

    return run


def test_requests_are_answered_in_order_in_openais_format(answered, engine):
    summary, lines = answered(
        line(1),
        line(2, "/v1/completions", prompt="Once"),
        line(3, response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}, max_tokens=40),
        line(4, n=2),
        line(5, "/v1/embeddings", input="Once") | {"body": {"model": "x", "input": "Once"}},
    )
    assert (summary.rows, summary.errors) == (5, 0)
    assert [one["custom_id"] for one in lines] == [f"task-{number}" for number in range(1, 6)]
    assert all(set(one) == {"id", "custom_id", "response", "error"} for one in lines)
    assert all(one["response"]["status_code"] == 200 and one["error"] is None for one in lines)
    bodies = [one["response"]["body"] for one in lines]
    greedy = SamplingSettings(temperature=0, max_tokens=5)
    assert bodies[0]["choices"][0]["message"]["content"] == engine.chat(HI, greedy)[0].text
    assert bodies[1]["choices"][0]["text"] == engine.complete("Once", greedy)[0].text
    assert 0 <= json.loads(bodies[2]["choices"][0]["message"]["content"])["n"] <= 99
    assert len(bodies[3]["choices"]) == 2
    assert bodies[4]["data"][0]["embedding"]
    assert summary.prompt_tokens == sum(body["usage"]["prompt_tokens"] for body in bodies)
    assert len({one["id"] for one in lines}) == 5


def test_errors_stay_with_their_lines(answered):
    summary, lines = answered(
        line(1),
        line(2, temperature=-5),
        line(3, "/v1/files"),
        line(4, method="GET"),
        line(5, stream=True),
        line(6) | {"body": "x"},
        "not JSON",
        '{"custom_id": "task-8"}',
        line(9, messages=[{"role": "user", "content": "x" * 500}]),
        line(10),
    )
    assert summary.errors == 8
    assert [one["custom_id"] for one in lines] == [
        *(f"task-{n}" for n in range(1, 7)),
        None,
        "task-8",
        "task-9",
        "task-10",
    ]
    statuses = [one["response"] and one["response"]["status_code"] for one in lines]
    assert statuses == [200, 400, None, None, None, None, None, None, 400, 200]
    messages = [one["error"]["message"] for one in lines if one["error"]]
    for message, expected in zip(
        messages,
        ["/v1/files", "only POST", "streamed", "not an object", "not valid JSON", "no body, method, url"],
        strict=True,
    ):
        assert expected in message
    assert lines[8]["response"]["body"]["error"]["code"] == "context_length_exceeded"


def test_a_repeated_custom_id_is_an_error(answered):
    summary, lines = answered(line(1), line(2), line(1, max_tokens=2), line(3), line(2) | {"method": "GET"})
    assert summary.errors == 2
    assert [one["custom_id"] for one in lines] == ["task-1", "task-2", "task-1", "task-3", "task-2"]
    assert [one["response"] is None for one in lines] == [False, False, True, False, True]
    for number, name in ((2, "task-1"), (4, "task-2")):
        assert f'also has the custom_id "{name}"' in lines[number]["error"]["message"]


def test_a_custom_id_is_unique_across_an_interruption(engine, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(line(number)) + "\n" for number in (1, 2, 1)))
    second = list(Rows(str(source)))[1]
    job = BatchJob(str(source), tmp_path / "out.jsonl", PromptTemplate(), open_app=engine_app)
    (done,) = _results(engine, job, iter(Rows(str(source))), second.number, second.check)
    assert done.failed
    assert "task-1" in done.result["error"]["message"]


def test_many_requests_keep_their_order(answered):
    rows = [line(number, "/v1/completions", prompt=f"row {number}", max_tokens=1 + number % 7) for number in range(40)]
    summary, lines = answered(*rows, concurrency=8)
    assert summary.errors == 0
    assert [one["custom_id"] for one in lines] == [f"task-{number}" for number in range(40)]
    assert [one["response"]["body"]["usage"]["prompt_tokens"] for one in lines] == [
        len(f"row {number}") for number in range(40)
    ]


def test_settings_are_rejected(engine, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(line(1)) + "\n")
    with pytest.raises(TinyslmError, match="have settings of their own"):
        run_batch(engine, "m", BatchJob(str(source), tmp_path / "out.jsonl", PromptTemplate(system="Be short.")))
    as_data = PromptTemplate(template="{{ custom_id }}", sampling=SamplingSettings(max_tokens=2))
    assert run_batch(engine, "m", BatchJob(str(source), tmp_path / "out.jsonl", as_data)).rows == 1
