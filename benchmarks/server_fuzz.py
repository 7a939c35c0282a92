"""The server against its own OpenAPI document: requests as it describes them, and such that break the description.

    python benchmarks/server_fuzz.py --cases 10000

Schemathesis makes the requests. No answer may be a 500, and every answer that is an error has OpenAI's form. Answers
are short and the model's name is the right one in most requests, so that these get past the first checks.
"""

import argparse
import json
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import requests
import schemathesis
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from local_server import local_server
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.tokenizer.training import train_tokenizer

LONGEST_ANSWER = 8  # tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "tiny"
        make_model(folder)
        log = Path(name) / "log"
        with local_server(folder, log) as (url, _):
            found = fuzz(url, arguments.cases, arguments.seed)
            assert requests.get(f"{url}/ready", timeout=30).status_code == 200
        assert "Traceback" not in log.read_text(), log.read_text()[-5000:]
    print(json.dumps(found))


def make_model(folder: Path) -> None:
    """A random model over bytes."""
    tokenizer = train_tokenizer([], kind="byte")
    torch.manual_seed(0)
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, dim=32, depth=1, heads=2, context=512))
    save_model(model, folder, tokenizer)


def fuzz(url: str, cases: int, first_seed: int) -> dict:
    """Send so many requests, an equal share to each operation, half of them such that break the description."""
    document = narrowed(requests.get(f"{url}/openapi.json", timeout=30).json())
    operations = [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]
    operations = [operation for operation in operations if operation is not None]
    statuses: Counter[str] = Counter()
    sent = 0
    with requests.Session() as session:
        while sent < cases:
            for number, operation in enumerate(operations):
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    share = max(1, min(200, (cases - sent) // (2 * len(operations))))
                    sent += send(operation, mode, share, first_seed + sent + number, (url, session, statuses))
            print(f"{sent} requests: {dict(sorted(statuses.items()))}", flush=True)
    return {"cases": sent, "statuses": dict(sorted(statuses.items()))}


def send(operation, mode, count: int, start: int, place: tuple) -> int:
    """Send `count` requests of one operation; returns how many were sent."""
    url, session, statuses = place
    sent = 0

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case) -> None:
        nonlocal sent
        sent += 1
        answer = case.call(base_url=url, session=session, timeout=60)
        statuses[str(answer.status_code)] += 1
        check(case, answer)

    with suppress(Unsatisfiable):  # an operation without anything to break
        one()
    return sent


def check(case, answer) -> None:
    """The answer is none of the server's failures, and if it is an error, it has OpenAI's form."""
    said = f"{case.method} {case.formatted_path} {case.body!r:.2000}: {answer.status_code} {answer.content[:500]!r}"
    assert answer.status_code != 500, said
    if answer.status_code >= 400 and answer.content and case.method.upper() != "HEAD":
        assert set(json.loads(answer.content)["error"]) == {"message", "type", "param", "code"}, said


def narrowed(value):
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


if __name__ == "__main__":
    main()
