"""Requests generated from the server's own OpenAPI document, half of which break what it describes.

No answer is a 500, and every error has OpenAI's form. Answers are short and the model's name is the right one, so that
requests get past the first checks.
"""

import json
from collections import Counter
from contextlib import suppress
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

LONGEST_ANSWER = 8  # tokens


def test_no_request_makes_the_server_fail(serve) -> None:
    statuses: Counter[int] = Counter()
    with serve() as running, requests.Session() as session:
        document = narrowed(requests.get(f"{running.url}/openapi.json", timeout=30).json())
        for number, result in enumerate(schemathesis.openapi.from_dict(document).get_all_operations()):
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                send(result.ok(), mode, number, running.url, session, statuses)
        assert requests.get(f"{running.url}/ready", timeout=30).status_code == 200
    assert sum(statuses.values()) >= 20
    assert {200, 400} <= set(statuses)


def send(operation, mode, first_seed: int, url: str, session, statuses: Counter[int], *, count: int = 2) -> None:
    """Send `count` requests of one operation, and check the answers."""

    @seed(first_seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case) -> None:
        answer = case.call(base_url=url, session=session, timeout=60)
        statuses[answer.status_code] += 1
        said = f"{case.method} {case.formatted_path} {case.body!r:.2000}: {answer.status_code} {answer.content[:500]!r}"
        assert answer.status_code != 500, said
        if answer.status_code >= 400 and answer.content and case.method.upper() != "HEAD":
            assert set(json.loads(answer.content)["error"]) == {"message", "type", "param", "code"}, said

    with suppress(Unsatisfiable):  # an operation without anything to break
        one()


def narrowed(value: Any) -> Any:
    """The document with the model's name as the only one, and short answers."""
    if isinstance(value, list):
        return [narrowed(one) for one in value]
    if not isinstance(value, dict):
        return value
    made = {key: narrowed(one) for key, one in value.items()}
    properties = made.get("properties", {})
    if "model" in properties:
        properties["model"] = {"enum": ["tiny"]}
    for name in {"max_tokens", "max_completion_tokens", "max_output_tokens"} & set(properties):
        properties[name] = {"type": "integer", "minimum": 1, "maximum": LONGEST_ANSWER}
        made["required"] = sorted({*made.get("required", []), name})
    if "n" in properties:
        properties["n"] = {"type": "integer", "minimum": 1, "maximum": 3}
    return made
