"""Client libraries of OpenAI's API against a running server."""

import asyncio
import json
import warnings
from typing import Literal

import httpx
import openai
import pytest
from pydantic import BaseModel

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:langchain.*",
    "ignore::DeprecationWarning:pydantic_ai.*",
    "ignore::DeprecationWarning:smolagents.*",
)


class Beetle(BaseModel):
    """A beetle."""

    colour: Literal["red", "green"]
    legs: Literal[6]
    flies: bool


QUESTION = [{"role": "user", "content": "Describe a beetle."}]


def test_openai_parses_structured_output(running) -> None:
    answer = running.client.chat.completions.parse(model="tiny", messages=QUESTION, response_format=Beetle, seed=1)
    assert isinstance(answer.choices[0].message.parsed, Beetle)
    answer = running.client.responses.parse(model="tiny", input="Describe a beetle.", text_format=Beetle)
    assert isinstance(answer.output_parsed, Beetle)
    assert len(answer._request_id) == 16  # which is in the log


def test_models_list_their_default_sampling(running) -> None:
    usual = {"temperature": 0.7, "top_k": 0, "top_p": 1.0, "min_p": 0.05, "repetition_penalty": 1.0}
    running.client.completions.create(model="tiny", prompt="a", max_tokens=1)  # it is loaded now
    with running.http() as http:
        assert http.get("/v1/models/tiny").json()["sampling"] == usual
    answer = running.client.responses.create(model="tiny", input="a", max_output_tokens=1)
    assert (answer.temperature, answer.top_p) == (0.7, 1.0)
    answer = running.client.responses.create(model="tiny", input="a", max_output_tokens=1, temperature=1, top_p=0)
    assert (answer.temperature, answer.top_p) == (1.0, 0.0)


def test_openai_parses_calls(running) -> None:
    tool = openai.pydantic_function_tool(Beetle, name="describe")
    answer = running.client.chat.completions.parse(
        model="tiny", messages=QUESTION, tools=[tool], tool_choice="required", parallel_tool_calls=False
    )
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Beetle)


def test_openai_streams_with_its_helper(running) -> None:
    asked = {"model": "tiny", "messages": QUESTION, "response_format": Beetle, "seed": 1}
    with running.client.chat.completions.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        whole = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert isinstance(whole.choices[0].message.parsed, Beetle)


def test_openai_streams_responses_with_its_helper(running) -> None:
    with running.client.responses.stream(model="tiny", input="Describe a beetle.", text_format=Beetle) as stream:
        events = list(stream)
        whole = stream.get_final_response()
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert isinstance(whole.output_parsed, Beetle)


def test_openai_continues_from_responses(running) -> None:
    client = running.client
    first = client.responses.create(
        model="tiny", input="Hello.", instructions="Be brief.", max_output_tokens=4, metadata={"a": "b"}, temperature=0
    )
    assert (first.status, first.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert first.metadata == {"a": "b"}
    second = client.responses.create(
        model="tiny",
        input=[{"role": "user", "content": [{"type": "input_text", "text": "And?"}]}],
        previous_response_id=first.id,
        max_output_tokens=4,
    )
    assert second.usage.input_tokens > 10
    assert second.previous_response_id == first.id
    whole = [{"role": "user", "content": "Hello."}, *[item.model_dump() for item in first.output]]
    third = client.responses.create(
        model="tiny", input=[*whole, {"role": "user", "content": "And?"}], max_output_tokens=4, store=False
    )
    assert third.usage.input_tokens == second.usage.input_tokens
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(third.id)


def test_openai_asynchronously(running) -> None:
    async def ask() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none") as client:
            settings = {"model": "tiny", "messages": QUESTION, "max_tokens": 9, "seed": 1}
            whole = await client.chat.completions.create(**settings)
            stream = await client.chat.completions.create(**settings, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            return whole.choices[0].message.content, text

    whole, text = asyncio.run(ask())
    assert whole == text


def test_openai_lists_models_and_embeds(running) -> None:
    client = running.client
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "tinyslm"
    found = client.embeddings.create(model="tiny", input=["one", "two"]).data  # base64, as this client asks for
    floats = client.embeddings.create(model="tiny", input=["one", [116, 119, 111]][0], encoding_format="float").data
    assert found[0].embedding == pytest.approx(floats[0].embedding)
    assert sum(value**2 for value in found[1].embedding) == pytest.approx(1)
    assert found[0].embedding != found[1].embedding


def test_openai_completes_plain_text(running) -> None:
    client = running.client
    settings = {"model": "tiny", "max_tokens": 6, "seed": 1}
    both = client.completions.create(prompt=["ab", "cd"], n=2, echo=True, **settings).choices
    assert [choice.text[:2] for choice in both] == ["ab", "ab", "cd", "cd"]
    alone = client.completions.create(prompt=[97, 98], logprobs=2, **settings).choices[0]
    assert both[0].text == "ab" + alone.text
    assert len(alone.logprobs.tokens) == len(alone.logprobs.token_logprobs) == 6
    assert all(len(top) == 2 for top in alone.logprobs.top_logprobs)
    streamed = client.completions.create(prompt="ab", echo=True, stream=True, **settings)
    assert "".join(chunk.choices[0].text for chunk in streamed) == both[0].text


@pytest.fixture(scope="module")
def langchain(running):
    from langchain_openai import ChatOpenAI

    with httpx.Client() as http:
        yield ChatOpenAI(
            base_url=f"{running.url}/v1", api_key="none", model="tiny", max_tokens=300, seed=1, http_client=http
        )


def test_langchain_asks_and_streams(langchain) -> None:
    short = langchain.bind(max_tokens=8)
    answer = short.invoke("Hello.")
    assert answer.usage_metadata["output_tokens"] == 8
    assert "".join(chunk.content for chunk in short.stream("Hello.")) == answer.content


def test_langchain_calls_tools(langchain) -> None:
    bound = langchain.bind_tools([Beetle], tool_choice="any", parallel_tool_calls=False)
    (call,) = bound.invoke("Describe a beetle.").tool_calls
    assert call["name"] == "Beetle"
    Beetle(**call["args"])


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_langchain_gives_structured_output(langchain, method) -> None:
    asked = langchain.with_structured_output(Beetle, method=method, include_raw=method == "json_mode")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Pydantic serializer warnings", category=UserWarning)
        found = asked.invoke("Describe a beetle, as JSON.")
    if method == "json_mode":  # any object: a random one is not a beetle
        assert found["raw"].content.startswith("{")
    else:
        assert isinstance(found, Beetle)


@pytest.fixture(scope="module")
def ask_pydantic_ai(running):
    """Runs an agent: `ask(question, tools, output_type=Beetle)`."""
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    async def run(question, tools, limits=None, **options):
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none") as client:
            model = OpenAIChatModel("tiny", provider=OpenAIProvider(openai_client=client))
            settings = {"max_tokens": 300, "seed": 1, "parallel_tool_calls": False}
            return await Agent(model, tools=tools, model_settings=settings, **options).run(
                question, usage_limits=limits
            )

    return lambda question, tools=(), **options: asyncio.run(run(question, tools, **options))


def test_pydantic_ai_gives_typed_output(ask_pydantic_ai) -> None:
    from pydantic_ai import NativeOutput

    for kind in (Beetle, NativeOutput(Beetle)):
        assert isinstance(ask_pydantic_ai("Describe a beetle.", output_type=kind).output, Beetle)


def test_pydantic_ai_calls_tools(ask_pydantic_ai) -> None:
    from pydantic_ai.exceptions import UsageLimitExceeded
    from pydantic_ai.usage import UsageLimits

    looked: list[bool] = []

    def look(closely: bool) -> str:
        """Look at the beetle."""
        looked.append(closely)
        return "It is red."

    try:  # the output is a tool too, and chance decides whether the model ever comes to it
        found = ask_pydantic_ai("Describe a beetle.", [look], limits=UsageLimits(request_limit=3), output_type=Beetle)
        assert isinstance(found.output, Beetle)
    except UsageLimitExceeded:
        assert len(looked) == 3
    assert all(isinstance(closely, bool) for closely in looked)


def test_smolagents_calls_tools(running) -> None:
    from smolagents import OpenAIModel, Tool

    class Look(Tool):
        name = "look"
        description = "Looks at the beetle."
        inputs = {"closely": {"type": "boolean", "description": "Whether to look closely."}}  # noqa: RUF012
        output_type = "string"

        def forward(self, closely: bool) -> str:
            return "It is red."

    with httpx.Client() as http:
        options = {"max_tokens": 300, "seed": 1, "client_kwargs": {"http_client": http}}
        model = OpenAIModel("tiny", api_base=f"{running.url}/v1", api_key="none", **options)
        check_smolagents(model, Look())


def check_smolagents(model, tool) -> None:
    question = [{"role": "user", "content": [{"type": "text", "text": "Look."}]}]
    answer = model.generate(question, tools_to_call_from=[tool])
    call = answer.tool_calls[0].function
    arguments = call.arguments if isinstance(call.arguments, dict) else json.loads(call.arguments)
    assert (call.name, type(arguments["closely"])) == ("look", bool)
    pieces = list(model.generate_stream(question))
    assert any(piece.content for piece in pieces)
