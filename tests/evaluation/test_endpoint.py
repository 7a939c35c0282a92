"""A server that speaks OpenAI's API as a generator: what is sent to it, and what is made of its answers."""

import json

import pytest

from scripted_server import scripted_server
from tinyslm.agents.agent import Agent
from tinyslm.batch.answering import answer_rows
from tinyslm.batch.prompts import PromptTemplate
from tinyslm.core.errors import TinyslmError
from tinyslm.data.rows import Row
from tinyslm.evaluation.continuations import Reading, score_continuations
from tinyslm.evaluation.protocols import Continuation, ContinuationScore
from tinyslm.evaluation.runtimes import endpoint as endpoint_module
from tinyslm.evaluation.runtimes.endpoint import KEY_VARIABLE, Endpoint, EndpointBusy
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.tools.tool import tool

GREEDY = SamplingSettings(temperature=0, max_tokens=5)
MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with scripted_server() as made:
        yield made


def chunk(finish=None, **delta) -> dict:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def test_conversations_and_texts_are_answered(server, monkeypatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    endpoint = Endpoint(server.url)
    usage = {"usage": {"completion_tokens": 4}}
    server.answers = [
        (200, {"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}], **usage}),
        (200, {"choices": [{"text": " there", "finish_reason": "length"}], **usage}),
    ]
    found = endpoint.generate(MESSAGES, GREEDY)
    assert (found.text, found.finish, found.tokens) == ("Hi.", "stop", 4)
    assert endpoint.generate([1, 2], GREEDY).finish == "length"
    (chat_path, chat, headers), (path, completion, _) = server.asked
    assert headers["Authorization"] == "Bearer secret"
    assert (chat_path, path) == ("/v1/chat/completions", "/v1/completions")
    assert chat == {"model": "first", "messages": MESSAGES, "temperature": 0, "max_tokens": 5}
    assert completion["prompt"] == [1, 2]


def scored(tokens: list[str], logprobs: list, top: list | None = None) -> tuple[int, dict]:
    scores = {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": top}
    return 200, {"choices": [{"text": "", "logprobs": scores}]}


def test_the_tokens_of_a_continuation_are_scored(server) -> None:
    top = [None, {" dog": -2.0}, {" bar": -1.5}, {"ks": -0.5}, {"?": -0.05}]
    tokens, logprobs = ["A", " dog", " bar", "ks", "!"], [None, -2.0, -1.5, -0.5, -0.1]
    server.answers = [scored(tokens, logprobs, top), scored(tokens, logprobs), (200, {"choices": [{"text": ""}]})]
    endpoint = Endpoint(server.url, "named")
    asked = Continuation("A dog", " barks")
    assert endpoint.score_text(asked) == ContinuationScore(-2.0, 2, greedy=True)
    assert (server.asked[0][1]["model"], server.asked[0][1]["echo"]) == ("named", True)
    assert not endpoint.score_text(asked).greedy, "not known"
    with pytest.raises(TinyslmError, match="does not return the probabilities"):
        endpoint.score_text(asked)


@pytest.mark.parametrize(
    ("tokens", "logprobs", "words"),
    [
        (["A", " cat", " barks", "!"], [None, -1.0, -1.0, -1.0], "a different text"),
        (["A", " dog", " barks", "!"], [None, -1.0, float("nan"), -1.0], "assigns the impossible log-probability nan"),
        (["A", " dog", " barks", "!"], [None, -1.0, 2.0, -1.0], "assigns the impossible log-probability 2.0"),
        (["A", " dog", " barks", "!"], [None, -1.0], "does not return the probabilities"),
        (["A", " dog", " barks", 7], [None, -1.0, -1.0, -1.0], "does not return the probabilities"),
        (["A", " dog", " barks", "!"], [None, -1.0, "high", -1.0], "does not return the probabilities"),
    ],
)
def test_servers_that_lie_about_probabilities_are_named(server, tokens, logprobs, words) -> None:
    server.answers = [scored(tokens, logprobs)]
    with pytest.raises(TinyslmError, match=words):
        score_continuations(Endpoint(server.url, "named"), Reading((), 100), [Continuation("A dog", " barks")])


def test_a_busy_server_is_asked_again(server, monkeypatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(endpoint_module.time, "sleep", waits.append)
    busy = (429, {"error": {"message": "Slow down."}})
    server.answers = [busy, busy, scored(["a"], [-1.0])]
    endpoint = Endpoint(server.url, "named")
    assert endpoint.score_text(Continuation("", "a")).logprob == -1
    assert waits == [1.0, 2.0]
    server.answers = [busy] * endpoint_module.RETRIES
    with pytest.raises(EndpointBusy, match="answers 429: Slow down"):
        endpoint.score_text(Continuation("", "a"))


def test_rows_are_answered_by_an_endpoint(server, monkeypatch) -> None:
    monkeypatch.setattr(endpoint_module, "RETRY_SECONDS", 0.01)
    usage = {"usage": {"prompt_tokens": 7, "completion_tokens": 4}}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    server.answers = [
        (429, {"error": {"message": "Slow down."}}),
        (200, {"choices": [{"message": {"content": '{"n": 1}'}, "finish_reason": "stop"}], **usage}),
        (200, {"choices": [{"message": {"content": '{"n": '}, "finish_reason": "length"}], **usage}),
    ]
    template = PromptTemplate(
        chat=True, constraint=OutputConstraint("schema", schema), sampling=SamplingSettings(seed=5)
    )
    rows = [Row(number, {"prompt": "One?"}) for number in (1, 2)]
    endpoint = Endpoint(server.url)
    first, second = answer_rows(endpoint, template, rows, (), 1)
    assert (first.result["value"], first.result["prompt_tokens"], first.failed) == ({"n": 1}, 7, False)
    assert (second.result["value"], second.failed) == (None, True)
    _, again, other = (body for _, body, _ in server.asked)
    assert again["response_format"]["json_schema"]["schema"] == schema
    assert (again["seed"], other["seed"]) == (5, 6)
    assert again["messages"] == [{"role": "user", "content": "One?"}]
    with pytest.raises(TinyslmError, match="regex constraint is not supported"):
        list(answer_rows(endpoint, PromptTemplate(constraint=OutputConstraint("regex", "a")), rows, (), 1))


@tool
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


def test_an_agent_runs_on_an_endpoint(server) -> None:
    call = {"index": 0, "id": "a", "function": {"name": "double", "arguments": '{"x": '}}
    rest = {"index": 0, "function": {"arguments": "21}"}}
    server.answers = [
        [
            chunk(content="Let me "),
            chunk(content="see."),
            chunk(tool_calls=[call]),
            chunk("tool_calls", tool_calls=[rest]),
        ],
        [chunk("stop", content="It is 42."), {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}],
    ]
    result = Agent(Endpoint(server.url), [double], settings=SamplingSettings(seed=7)).run("Twice 21?")
    assert (result.text, result.finish, result.steps) == ("It is 42.", "answer", 2)
    assert result.trace.said[0].text == "Let me see."
    assert (result.trace.said[1].prompt_tokens, result.trace.said[1].tokens) == (9, 5)
    first, second = (body for _, body, _ in server.asked)
    assert first["tools"][0]["function"]["name"] == "double"
    assert (first["tool_choice"], first["seed"], second["seed"]) == ("auto", 7, 8)
    made, returned = second["messages"][1:]
    assert json.loads(made["tool_calls"][0]["function"]["arguments"]) == {"x": 21}
    assert (returned["role"], returned["content"]) == ("tool", "42")


@pytest.mark.parametrize(
    ("answer", "problem", "remedy"),
    [
        ((401, {"error": {"message": "No key."}}), "answers 401: No key", KEY_VARIABLE),
        ((404, {"error": "no such model"}), "answers 404: no such model", "Change the request"),
        ((200, {"something": 1}), "without choices", "speaks OpenAI's API"),
    ],
)
def test_refusals_are_two_lines(server, answer, problem: str, remedy: str) -> None:
    server.answers = [answer]
    with pytest.raises(TinyslmError, match=problem) as caught:
        Endpoint(server.url, "x").generate(MESSAGES, GREEDY)
    assert remedy in caught.value.remedy


def test_a_conversation_too_long_for_the_server_loses_its_oldest_results(server) -> None:
    call = {"index": 0, "function": {"name": "double", "arguments": '{"x": 1}'}}
    full = (400, {"error": {"message": "This model's maximum context length is 10 tokens."}})
    server.answers = [[chunk("tool_calls", tool_calls=[call])], full, [chunk("stop", content="2")]]
    assert Agent(Endpoint(server.url), [double]).run("Twice 1?").text == "2"
    assert "left out" in server.asked[-1][1]["messages"][-1]["content"]


def test_what_is_no_server_is_refused() -> None:
    with pytest.raises(TinyslmError, match="not the address"):
        Endpoint("localhost:8000")
    with pytest.raises(TinyslmError, match="does not answer"):
        Endpoint("http://127.0.0.1:9/v1", timeout=2)
