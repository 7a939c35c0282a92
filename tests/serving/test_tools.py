"""Tools in chat completions and responses: with grammars, even a random model makes valid calls."""

import json

import pytest

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"x": {"enum": [1, 2]}, "y": {"type": "boolean"}},
            "required": ["x", "y"],
            "additionalProperties": False,
        },
    },
}
STOP = {
    "type": "function",
    "function": {"name": "stop", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "1 + 2?"}], "max_tokens": 300, "seed": 3}
BOTH = {"tools": [ADD, STOP]}
ONE = {"type": "function", "function": {"name": "add"}}


def whole(client, **settings):
    return client.chat.completions.create(**CHAT, **settings).choices[0]


def streamed(client, **settings):
    """The text and the calls of a stream, put together as clients do."""
    text, calls, finish = "", [], None
    for chunk in client.chat.completions.create(**CHAT, **settings, stream=True):
        choice = chunk.choices[0]
        text += choice.delta.content or ""
        for call in choice.delta.tool_calls or []:
            if call.index == len(calls):
                calls.append([call.id, call.function.name, ""])
            calls[call.index][2] += call.function.arguments or ""
        finish = choice.finish_reason or finish
    return text, calls, finish


@pytest.mark.parametrize("choice", ["required", ONE], ids=["any", "named"])
def test_calls_are_well_formed(running, choice) -> None:
    found = whole(running.client, **BOTH, tool_choice=choice, parallel_tool_calls=False)
    assert found.finish_reason == "tool_calls"
    (call,) = found.message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert call.id
    if call.function.name == "add":
        assert arguments["x"] in (1, 2)
        assert isinstance(arguments["y"], bool)
    else:
        assert choice == "required"
        assert arguments == {}


def test_chunks_join_to_the_whole(running) -> None:
    settings = {**BOTH, "tool_choice": ONE}
    found = whole(running.client, **settings)
    _text, calls, finish = streamed(running.client, **settings)
    assert [call[1:] for call in calls] == [
        [call.function.name, call.function.arguments] for call in found.message.tool_calls
    ]
    assert len({call[0] for call in calls}) == len(calls)
    assert finish == "tool_calls"


def test_tool_choice_none(running) -> None:
    found = whole(running.client, **BOTH, tool_choice="none")
    assert found.message.tool_calls is None
    plain = whole(running.client)
    assert found.message.content == plain.message.content  # the prompt does not mention tools


def test_the_prompt_describes_the_tools(running) -> None:
    with running.http() as http:
        asked = {"model": "tiny", "messages": CHAT["messages"], "tools": [ADD]}
        ids = http.post("/tokenize", json=asked).json()["tokens"]
        prompt = http.post("/detokenize", json={"model": "tiny", "tokens": ids}).json()["prompt"]
    assert "Adds two numbers." in prompt
    assert prompt.endswith("<|im_start|>assistant\n")


def test_a_response_format_with_optional_calls_is_rejected(running) -> None:
    with running.http() as http:
        body = CHAT | BOTH | {"response_format": {"type": "json_object"}}
        response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "tool_choice"


def test_unsupported_parameters_are_rejected_by_name(running) -> None:
    strange = {"type": "function", "function": {"name": "odd", "parameters": {"type": "object", "not": {}}}}
    with running.http() as http:
        response = http.post("/v1/chat/completions", json=CHAT | {"tools": [strange], "tool_choice": "required"})
    assert response.status_code == 400
    assert "odd" in response.json()["error"]["message"]


FUNCTION = {"type": "function", **ADD["function"]}
ASKED = {"model": "tiny", "input": "1 + 2?", "max_output_tokens": 300, "tools": [FUNCTION]}


def test_calls_in_responses(running) -> None:
    client = running.client
    first = client.responses.create(**ASKED, tool_choice="required", parallel_tool_calls=False)
    (call,) = first.output
    assert (call.type, call.name, first.status) == ("function_call", "add", "completed")
    assert set(json.loads(call.arguments)) == {"x", "y"}
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "3"}
    second = client.responses.create(
        model="tiny",
        input=[output],
        previous_response_id=first.id,
        max_output_tokens=5,
        text={"format": {"type": "text"}},
    )
    assert second.usage.input_tokens > first.usage.output_tokens
    assert second.output[0].type == "message"


def test_events_of_calls_in_responses(running) -> None:
    events = list(
        running.client.responses.create(**ASKED, tool_choice={"type": "function", "name": "add"}, stream=True)
    )
    names = [event.type for event in events]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert names[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert names[-3:] == ["response.function_call_arguments.done", "response.output_item.done", "response.completed"]
    deltas = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    assert deltas == events[-1].response.output[0].arguments
