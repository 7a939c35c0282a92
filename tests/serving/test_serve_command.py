"""`tinyslm serve` as a program, with curl: its address, its log, its shutdown. Installed once, else forked."""

import json
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from serve_program import curl, program


def test_curl_the_log_and_shutdown(model_folder) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "a secret question"}], "max_tokens": 5}
    with program(model_folder) as (url, process):
        sent = ("-H", "Content-Type: application/json", f"{url}/v1/chat/completions", "-d")
        whole = json.loads(curl(*sent, json.dumps(body)))
        assert whole["usage"]["completion_tokens"] == 5
        events = curl(*sent, json.dumps(body | {"stream": True})).strip().split("\n\n")
        assert events[-1] == "data: [DONE]"
        assert json.loads(events[0].removeprefix("data: "))["object"] == "chat.completion.chunk"
        assert json.loads(curl(f"{url}/ready")) == {"status": "ready"}
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    _, answered, _, _, stopping, _, stopped = log.strip().splitlines()
    begin = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d INFO"
    assert re.fullmatch(
        begin + r" [0-9a-f]{16} POST /v1/chat/completions 200 model=tiny prompt=\d+ cached=0 generated=5 "
        r"first=[\d.]+s total=[\d.]+s",
        answered,
    )
    assert re.fullmatch(f"{begin} - Stopping; answers under way: 0.", stopping)
    assert re.fullmatch(f"{begin} - Stopped.", stopped)
    assert "secret" not in log


def test_prompts_are_logged_only_when_asked(model_folder, forked) -> None:
    body = {"model": "tiny", "prompt": "an open\x1b question", "max_tokens": 5, "logit_bias": {"97": 100}}
    with program(model_folder, "--log-prompts", command=forked) as (url, process):
        curl("-H", "Content-Type: application/json", f"{url}/v1/completions", "-d", json.dumps(body))
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "an open\\x1b question" in log
    assert "aaaaa" in log


def test_the_log_as_json_names_each_request(model_folder, forked) -> None:
    with program(model_folder, "--log-json", "--log-prompts", command=forked) as (url, process):
        sent = ("-H", "Content-Type: application/json", "-H", "X-Request-Id: from-a.proxy:1", f"{url}/v1/completions")
        body = {"model": "tiny", "prompt": "a\nb", "max_tokens": 5, "logit_bias": {"97": 100}}
        headers = curl("-D", "-", *sent, "-d", json.dumps(body))
        curl("-H", "X-Request-Id: with a space", f"{url}/health")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert "x-request-id: from-a.proxy:1" in headers.lower()
    lines = [json.loads(line) for line in log.splitlines()]
    assert all({"time", "level", "request"} <= line.keys() for line in lines)
    _, answered, prompt, _, health, *_ = lines
    assert {answered["request"], prompt["request"]} == {"from-a.proxy:1"}
    assert (answered["path"], answered["status"], answered["generated"]) == ("/v1/completions", 200, 5)
    assert prompt["prompt"] == "a\nb"
    assert re.fullmatch("[0-9a-f]{16}", health["request"])
    assert lines[-1]["message"] == "Stopped."


def test_a_full_disk_does_not_keep_it_from_starting(model_folder, forked) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [forked, "serve", str(model_folder), "--port", str(port)]
    with Path("/dev/full").open("w") as full, subprocess.Popen(command, stdout=full, stderr=full) as process:
        retried = ("--retry", "60", "--retry-delay", "1", "--retry-connrefused")
        assert json.loads(curl(*retried, f"http://127.0.0.1:{port}/ready")) == {"status": "ready"}
        process.send_signal(signal.SIGTERM)


def mistake(command: str, *arguments: object) -> str:
    done = subprocess.run(
        [command, "serve", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (2, 2), done
    return " ".join(lines)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "No model was given"),
        (("nowhere",), "nowhere does not exist"),
        (("{}", "--model", "other"), "NAME=PATH"),
        (("{}", "--model", "tiny={}"), "different names"),
        (("{}", "--host", "0.0.0.0"), "no keys"),
        (("{}", "--keys", "nowhere"), "Check the path"),
        (("{}", "--host", "192.0.2.1", "--keys", "{keys}"), "8000: Cannot assign requested address. Give"),
        (("{}", "--engine", "steam"), "steam"),
        (("{}", "--cors", "*"), "origin"),
        (("{}", "--port", "99999"), "65535"),
        (("{}", "--models", "{keys}"), "no sections"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_errors_have_two_lines(model_folder, tmp_path, forked, arguments, says) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ann sha256:" + "0" * 64)
    keys.chmod(0o600)
    given = [part.replace("{keys}", str(keys)).replace("{}", str(model_folder)) for part in arguments]
    assert says in mistake(forked, *given)


def test_making_a_key(model_folder, tmp_path, forked) -> None:
    file = tmp_path / "keys"
    made = [forked, "serve", "--make-key", "ann", "--keys", str(file)]
    done = subprocess.run(made, capture_output=True, text=True, check=True, timeout=60)
    key = re.search(r"tslm-[\w-]{43}", done.stdout)[0]
    assert key not in file.read_text()
    with program(model_folder, "--keys", file, command=forked) as (url, _):
        refused, taken = f"{url}/v1/models", f"Authorization: Bearer {key}"
        assert json.loads(curl(refused))["error"]["code"] == "invalid_api_key"
        assert json.loads(curl("-H", taken, refused))["data"][0]["id"] == "tiny"


def test_adapters_are_named_with_the_memory_that_they_take(model_folder, tmp_path, forked) -> None:
    from tinyslm.model.folder import load_model
    from tinyslm.model.lora import add_adapters, save_adapters
    from tinyslm.model.lora_config import LoraConfig

    model, config = load_model(model_folder), LoraConfig(rank=2)
    add_adapters(model, config)
    save_adapters(model, tmp_path / "sql", config, model_folder)
    with program(model_folder, "--adapter", f"sql={tmp_path / 'sql'}", command=forked) as (url, process):
        assert re.fullmatch(
            r"Each adapter in use takes as much memory as tiny: [\d.]+ .B\.\n", process.stdout.readline()
        )
        listed = json.loads(curl(f"{url}/v1/models"))["data"]
        assert [(one["id"], one["loaded"]) for one in listed] == [("tiny", True), ("sql", False)]
