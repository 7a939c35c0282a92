"""/v1/chat/completions through OpenAI's own client."""

import asyncio
import json

import openai
import pytest
from pydantic import BaseModel

QUESTION = [{"role": "user", "content": "Hello?"}]
SETTINGS = {"model": "tiny", "messages": QUESTION, "max_tokens": 12, "seed": 1}


def test_an_answer_and_its_usage(running) -> None:
    answer = running.client.chat.completions.create(**SETTINGS)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.model == "tiny"


def test_a_seed_repeats_and_chunks_join_to_the_whole(running) -> None:
    whole = running.client.chat.completions.create(**SETTINGS)
    stream = running.client.chat.completions.create(**SETTINGS, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].usage.completion_tokens == 12
    assert chunks[-1].choices == []


def test_a_repeated_prompt_is_in_the_cache(running) -> None:
    long = [{"role": "user", "content": "a long beginning that both requests share " * 3}]
    answers = [running.client.chat.completions.create(**{**SETTINGS, "messages": long}) for _ in range(2)]
    assert answers[1].usage.prompt_tokens_details.cached_tokens >= 100


def test_several_samples(running) -> None:
    answer = running.client.chat.completions.create(**SETTINGS, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    alone = running.client.chat.completions.create(**{**SETTINGS, "seed": 2})
    assert answer.choices[1].message.content == alone.choices[0].message.content
    texts = ["", "", ""]
    for chunk in running.client.chat.completions.create(**SETTINGS, n=3, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [choice.message.content for choice in answer.choices]


def test_probabilities(running) -> None:
    answer = running.client.chat.completions.create(**SETTINGS, temperature=0, logprobs=True, top_logprobs=2)
    content = answer.choices[0].logprobs.content
    assert len(content) == 12
    for token in content:
        assert token.logprob == max(top.logprob for top in token.top_logprobs)
        assert len(token.top_logprobs) == 2
    spelled = b"".join(bytes(token.bytes) for token in content)
    assert spelled.decode("utf-8", "replace") == answer.choices[0].message.content
    stream = running.client.chat.completions.create(
        **SETTINGS, temperature=0, logprobs=True, top_logprobs=2, stream=True
    )
    streamed = [token for chunk in stream if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
    assert [token.bytes for token in streamed] == [token.bytes for token in content]


def test_stop_sequences(running) -> None:
    free = running.client.chat.completions.create(**{**SETTINGS, "max_tokens": 60}).choices[0].message.content
    end = free[20:22]
    stopped = running.client.chat.completions.create(**{**SETTINGS, "max_tokens": 60}, stop=[end, "never"]).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == free[: free.index(end)]


def test_logit_bias(running) -> None:
    answer = running.client.chat.completions.create(**SETTINGS, logit_bias={"97": 100})
    assert answer.choices[0].message.content == "a" * 12


def test_messages_in_all_their_forms(running) -> None:
    answer = running.client.chat.completions.create(
        model="tiny",
        max_tokens=2,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "1 + 1?"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1, "y": 1}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
        ],
    )
    assert answer.usage.prompt_tokens > 40


class Beetle(BaseModel):
    name: str
    legs: int


FEW = {"type": "object", "properties": {"legs": {"enum": [4, 6]}}, "required": ["legs"], "additionalProperties": False}


def test_answers_satisfy_the_schema(running) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "beetle", "schema": FEW, "strict": True}}
    for seed in range(3):
        answer = running.client.chat.completions.create(**{**SETTINGS, "seed": seed}, response_format=form).choices[0]
        assert json.loads(answer.message.content)["legs"] in (4, 6)
        assert answer.finish_reason == "stop"


@pytest.mark.parametrize(
    ("form", "allowed"),
    [
        ({"type": "regex", "pattern": "yes|no"}, {"yes", "no"}),
        ({"type": "choice", "choices": ["left", "right"]}, {"left", "right"}),
        ({"type": "lark", "grammar": 'start: "up" | "down"'}, {"up", "down"}),
    ],
)
def test_answers_satisfy_other_response_formats(running, form, allowed) -> None:
    answer = running.client.chat.completions.create(**SETTINGS, response_format=form)
    assert answer.choices[0].message.content in allowed


def test_concurrent_answers_are_not_mixed_up(running) -> None:
    async def ask(client: openai.AsyncOpenAI, number: int) -> str:
        form = {"type": "regex", "pattern": f"number {number:03}"}
        if number % 2:
            answer = await client.chat.completions.create(**SETTINGS, extra_body={"response_format": form})
            return answer.choices[0].message.content
        stream = await client.chat.completions.create(**SETTINGS, extra_body={"response_format": form}, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none") as client:
            return await asyncio.gather(*[ask(client, number) for number in range(40)])

    assert asyncio.run(ask_all()) == [f"number {number:03}" for number in range(40)]
