"""Errors: always in OpenAI's format."""

import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from tiny_server import make_model, wait_until

from tinyslm.inference.grammar import Grammar

TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}


def error_of(response: httpx.Response) -> dict:
    found = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert found["message"]
    return found


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"temprature": 1}, "temprature", 'Did you mean "temperature"?'),
        ({"functions": []}, "functions", "use tools"),
        ({"temperature": "hot"}, "temperature", "number"),
        ({"temperature": -1}, "temperature", "temperature must be at least 0, not -1."),
        ({"n": 99}, "n", "16"),
        ({"messages": []}, "messages", "an array of at least 1 items, not []"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "system"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content", "image_url"),
        ({"logit_bias": {"999": 1}}, "logit_bias", "319"),
        ({"logit_bias": {"-1": 1}}, "logit_bias", "no token"),
        ({"stream": "yes"}, "stream", 'stream must be true or false, not "yes".'),
        ({"max_tokens": True}, "max_tokens", "max_tokens must be an integer, not true."),
        ({"temperature": "1"}, "temperature", "must be a number"),
        ({"tools": {}}, "tools", "must be an array"),
        ({"top_logprobs": 3}, None, "logprobs"),
        ({"tool_choice": "required"}, None, "no tools"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"stop": ["a", 1]}, "stop.1", "must be a string, not 1."),
        ({"stop": ["a"] * 17}, "stop", "stop has 17 items. Give at most 16."),
        ({"stop": "a" * 257}, "stop", "stop has 257 characters. Give at most 256."),
        ({"stop": ["a", "a" * 1000]}, "stop.1", "stop.1 has 1,000 characters. Give at most 256."),
        ({"logit_bias": {str(token): 1 for token in range(1025)}}, "logit_bias", "1,025 items. Give at most 1,024."),
        ({"tools": [TOOL] * 129}, "tools", "tools has 129 items. Give at most 128."),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}] * 1025}]},
            "messages.0.content",
            "at most 1,024.",
        ),
        ({"messages": [{"role": "assistant", "tool_calls": [CALL] * 129}]}, "messages.0.tool_calls", "at most 128."),
        ({"messages": [{"role": "user"}] * 16_385}, "messages", "at most 16,384."),
        ({"response_format": {"type": "choice", "choices": ["a"] * 10_001}}, "response_format", "at most 10,000."),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "at most 20"),
        ({"model": "tiny" * 100}, "model", "model has 400 characters. Give at most 256."),
        ({"n": 2**10 + 1}, "n", "at most 1024"),
        ({"response_format": {"type": "jpeg"}}, "response_format", "json_schema"),
        ({"response_format": {"type": "regex", "pattern": "(a"}}, "response_format", "regular expression"),
        ({"response_format": {"type": "regex", "pattern": 1}}, "response_format.pattern", "must be a string"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
            "response_format.json_schema.schema",
            "must be an object",
        ),
        ({"messages": [{"role": "user", "content": "x" * 5000}]}, None, "4095"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_errors_name_the_field(running, change, param, says) -> None:
    with running.http() as http:
        response = http.post("/v1/chat/completions", json=CHAT | change)
    found = error_of(response)
    assert response.status_code == 400
    assert says in found["message"]
    if param is not None:
        assert (found["param"] or "").startswith(param)


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        ("/v1/completions", {"suffix": "x"}, "fill in the middle"),
        ("/v1/completions", {"prompt": [1, 9999]}, "no token"),
        ("/v1/completions", {"best_of": 3}, "best_of"),
        ("/v1/completions", {"echo": True, "logprobs": 1}, "echo"),
        ("/v1/completions", {"prompt": ["x"] * 65}, "64"),
        ("/v1/embeddings", {"input": []}, "texts"),
        ("/v1/embeddings", {"input": "x", "dimensions": 8}, "dimensions"),
        ("/v1/embeddings", {"input": "x" * 5000}, "4096"),
        ("/v1/responses", {"input": []}, "empty"),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input_image"),
        ("/v1/responses", {"input": "x", "previous_response_id": "resp_0"}, "whole conversation"),
        ("/v1/responses", {"input": "x", "reasoning": {"effort": "high"}}, "reasoning"),
        ("/tokenize", {}, "either prompt or messages"),
        ("/detokenize", {"tokens": [99999]}, "no token"),
    ],
)
def test_errors_of_other_routes_name_the_field(running, path, change, says) -> None:
    with running.http() as http:
        response = http.post(path, json={"model": "tiny"} | change)
    assert response.status_code == 400
    assert says in error_of(response)["message"]


@pytest.mark.parametrize(("path", "name"), [("/v1/completions", "suffix"), ("/v1/embeddings", "dimensions")])
def test_unsupported_fields_are_named(running, path, name) -> None:
    with running.http() as http:
        response = http.post(path, json={"model": "tiny", name: 8})
    assert error_of(response)["param"] == name


def test_a_deeply_nested_schema_is_rejected_everywhere(running) -> None:
    schema: dict = {}
    for _ in range(400):
        schema = {"type": "array", "items": schema}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    flat = {"type": "function", "name": "f", "parameters": schema}
    bodies = [
        ("/v1/chat/completions", CHAT | {"response_format": form}, "response_format.json_schema.schema"),
        ("/v1/chat/completions", CHAT | {"tools": [tool]}, "tools.0.function.parameters"),
        ("/v1/responses", {"model": "tiny", "input": "x", "tools": [flat]}, "tools.0.parameters"),
        (
            "/v1/responses",
            {"model": "tiny", "input": "x", "text": {"format": {"type": "json_schema", "schema": schema}}},
            "text.format.schema",
        ),
    ]
    with running.http() as http:
        for path, body, param in bodies:
            response = http.post(path, json=body)
            assert (response.status_code, error_of(response)["param"]) == (400, param)
            assert "nested more than 64 deep" in error_of(response)["message"]


def test_ignored_fields_are_accepted(running) -> None:
    harmless = {"user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "prediction": None}
    with running.http() as http:
        assert http.post("/v1/chat/completions", json={**CHAT, **harmless, "stop": None}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        ("POST", "/v1/chat/completions", b"{", 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b"[" * 100_000, 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b"\xff\xfe", 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b"", 400, "missing"),
        ("POST", "/v1/chat/completions", b"null", 400, "invalid_value"),
        ("POST", "/v1/chat/completions", b'"text"', 400, "invalid_value"),
        ("POST", "/v1/nothing", b"{}", 404, "not_found"),
        ("GET", "/v1/chat/completions", None, 405, "method_not_allowed"),
        ("GET", "/docs", None, 404, "not_found"),
        ("GET", "/v1/models/other", None, 404, "model_not_found"),
        ("GET", "/v1/responses/resp_0", None, 404, "not_found"),
    ],
)
def test_invalid_requests(running, method, path, content, status, code) -> None:
    with running.http() as http:
        response = http.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert (response.status_code, error_of(response)["code"]) == (status, code)


def test_an_unknown_model_is_not_found(running) -> None:
    with pytest.raises(openai.NotFoundError, match=r'no model "tinny".*mean "tiny"') as caught:
        running.client.chat.completions.create(**CHAT | {"model": "tinny"})
    assert caught.value.code == "model_not_found"


def test_control_characters_are_returned_unchanged(running) -> None:
    body = {"model": "tiny", "input": "x", "max_output_tokens": 1, "instructions": "\u0000\u2028é"}
    with running.http(headers={"Content-Type": "application/json"}) as http:
        response = http.post("/v1/responses", content=json.dumps(body))
    assert response.json()["instructions"] == "\u0000\u2028é"


NOT_STRICT = {
    "half of a character": (b'"\\ud800"', "unpaired surrogate"),
    "half of a character in a key": (b'{"\\udfff": 1}', "unpaired surrogate"),
    "NaN": (b"NaN", "NaN is not a JSON number"),
    "Infinity": (b"-Infinity", "-Infinity is not a JSON number"),
    "a large number": (b"1e999", "1e999 is too large"),
    "a key twice": (b'{"a": 1, "a": 2}', 'the key "a" occurs twice'),
    "no JSON": (b"{", "line 1, column"),
    "no UTF-8": (b'"\xff"', "not UTF-8"),
    "nesting": (b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("what", NOT_STRICT)
def test_every_route_accepts_only_strict_JSON(running, what) -> None:
    value, reason = NOT_STRICT[what]
    with running.http(headers={"Content-Type": "application/json"}) as http:
        paths = [
            (path, method)
            for path, methods in http.get("/openapi.json").json()["paths"].items()
            for method, operation in methods.items()
            if "requestBody" in operation
        ]
        assert len(paths) >= 6
        for path, method in [*paths, ("/look", "post"), ("/look/attention", "post")]:
            for name in (b"model", b"no such field", b"stream"):
                response = http.request(method, path, content=b'{"' + name + b'": ' + value + b"}")
                assert (response.status_code, error_of(response)["code"]) == (400, "invalid_json"), path
                assert reason in error_of(response)["message"]


@pytest.mark.parametrize("chunked", [False, True])
def test_long_bodies_are_rejected(serve, chunked) -> None:
    def parts():
        for _ in range(20):
            yield b" " * 1000

    with serve(max_body=10_000) as running, running.http(headers={"Content-Type": "application/json"}) as http:
        response = http.post("/tokenize", content=parts() if chunked else b" " * 20_000)
        assert (response.status_code, error_of(response)["code"]) == (413, "body_too_large")
        assert http.post("/tokenize", json={"model": "tiny", "prompt": "x"}).status_code == 200


def test_a_client_that_sends_its_whole_body_first_gets_the_error(running) -> None:
    client = http.client.HTTPConnection(*urlsplit(running.url).netloc.split(":"), timeout=30)
    with closing(client):
        client.request("POST", "/tokenize", b" " * 5_000_000, {"Content-Type": "application/json"})
        response = client.getresponse()
        assert response.status == 413
        assert json.loads(response.read())["error"]["code"] == "body_too_large"


def test_other_limits(serve) -> None:
    with serve(max_prompt=50, max_answer=5, max_requests=3) as running, running.http() as http:
        response = http.post("/v1/completions", json={"model": "tiny", "prompt": "x" * 51})
        assert error_of(response)["code"] == "context_length_exceeded"
        response = http.post("/v1/completions", json={"model": "tiny", "prompt": "x", "max_tokens": 6})
        assert "at most 5" in error_of(response)["message"]
        response = http.post("/v1/completions", json={"model": "tiny", "prompt": "x", "logit_bias": {"97": 100}})
        assert response.json()["usage"]["completion_tokens"] == 5
        response = http.post("/v1/completions", json={"model": "tiny", "prompt": "x", "n": 4})
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        assert error_of(response)["code"] == "queue_full"


def test_compiling_grammars_does_not_delay_other_requests(serve, monkeypatch) -> None:
    """One is being compiled, one waits, a third is refused; requests with known ones and without any are answered."""
    monkeypatch.setattr("tinyslm.serving.constraints.COMPILER_THREADS", 1)
    monkeypatch.setattr("tinyslm.serving.constraints.MAX_PENDING", 2)
    let_go, compiling = threading.Event(), threading.Event()
    compile_it = Grammar.regex

    def slow(pattern, tokenizer):
        if pattern != "known":
            compiling.set()
            assert let_go.wait(60)
        return compile_it(pattern, tokenizer)

    monkeypatch.setattr(Grammar, "regex", slow)
    with serve() as running, running.http() as http, ThreadPoolExecutor(2) as pool:

        def ask(pattern):
            form = {"type": "regex", "pattern": pattern}
            return http.post("/v1/completions", json={"model": "tiny", "response_format": form, "max_tokens": 9})

        assert ask("known").json()["choices"][0]["text"] == "known"
        waiting = [pool.submit(ask, pattern) for pattern in ("new", "newer")]
        assert compiling.wait(60)
        wait_until(lambda: running.server._service.grammars.pending == 2)
        response = ask("newest")
        assert (response.status_code, error_of(response)["code"]) == (429, "queue_full")
        assert http.post("/v1/completions", json={"model": "tiny", "max_tokens": 1}).status_code == 200
        assert ask("known").json()["choices"][0]["text"] == "known"
        let_go.set()
        assert [one.result().json()["choices"][0]["text"] for one in waiting] == ["new", "newer"]


def test_a_slow_answer_is_ended(serve) -> None:
    body = {"model": "tiny", "prompt": "x", "max_tokens": 1000, "logit_bias": {"97": 100}}
    with serve(max_seconds=0.02) as running, running.http() as http:
        response = http.post("/v1/completions", json=body)
        assert (response.status_code, error_of(response)["code"]) == (504, "time_limit")
        streamed = http.post("/v1/completions", json=body | {"stream": True}).text.strip().split("\n\n")
        assert json.loads(streamed[-1].removeprefix("data: "))["error"]["code"] == "time_limit"


def test_messages_need_a_chat_template(serve, tmp_path) -> None:
    with serve({"plain": make_model(tmp_path / "plain", chats=False)}) as running, running.http() as http:
        response = http.post("/v1/chat/completions", json=CHAT | {"model": "plain"})
        assert "/v1/completions" in error_of(response)["message"]
        assert http.post("/v1/completions", json={"model": "plain", "max_tokens": 2}).status_code == 200


def test_engine_failures_are_reported_without_details_and_logged(serve, caplog, monkeypatch) -> None:
    with serve() as running, running.http() as http:
        engine = running.models.loaded()["tiny"]
        monkeypatch.setattr(engine._batch.runner, "run", lambda rows: 1 / 0)
        for stream in (False, True):
            response = http.post("/v1/completions", json={"model": "tiny", "prompt": "x", "stream": stream})
            assert (response.status_code, error_of(response)["code"]) == (500, "internal_error")
            assert "ZeroDivision" not in response.text
        monkeypatch.undo()
        assert http.post("/v1/completions", json={"model": "tiny", "max_tokens": 1}).status_code == 200
    assert "ZeroDivisionError" in caplog.text


def test_a_failure_before_the_answer_frees_its_place(serve, monkeypatch) -> None:
    with serve(max_requests=1) as running, running.http() as http:
        monkeypatch.setattr("tinyslm.serving.chat.ChatWriter", lambda body, answer: 1 / 0)
        for _ in range(2):
            response = http.post("/v1/chat/completions", json=CHAT)
            assert (response.status_code, error_of(response)["code"]) == (500, "internal_error")
        monkeypatch.undo()
        assert http.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_a_prompt_far_too_long_is_rejected_before_it_is_encoded(running, monkeypatch) -> None:
    engine = running.models.loaded()["tiny"]
    monkeypatch.setattr(type(engine.tokenizer), "encode", lambda self, text: 1 / 0)
    spaces = " " * 200_000
    bodies = [
        ("/v1/completions", {"model": "tiny", "prompt": spaces}),
        ("/v1/embeddings", {"model": "tiny", "input": spaces}),
        ("/v1/chat/completions", CHAT | {"messages": [{"role": "user", "content": spaces}]}),
        ("/v1/responses", {"model": "tiny", "input": spaces}),
    ]
    with running.http() as http:
        for path, body in bodies:
            response = http.post(path, json=body)
            assert (response.status_code, error_of(response)["code"]) == (400, "context_length_exceeded")
            assert "characters" in error_of(response)["message"]
