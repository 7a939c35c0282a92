"""MCP both ways, with the official SDK and real processes."""

import asyncio
import http.client
import json
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from scripted_engine import call_text

from tinyslm.agents.agent import Agent
from tinyslm.agents.mcp_client import McpServer
from tinyslm.core.errors import TinyslmError
from tinyslm.inference.tools.running import Call, ToolRunner
from tinyslm.inference.tools.tool import ToolError

PROGRAM = shlex.join([sys.executable, str(Path(__file__).with_name("mcp_program.py"))])
TINYSLM = [sys.executable, "-c", "from tinyslm.cli import main; main()"]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "adult": {"type": "boolean"}},
    "required": ["name", "adult"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def program():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MY_SECRET_KEY", "x")
        with McpServer(PROGRAM, environment={"GIVEN": "1"}) as server:
            yield {tool.name: tool for tool in server.tools}


@pytest.fixture(scope="module")
def odd():
    """A server with a name, one of whose tools cannot be used."""
    with McpServer.named(f"maths={PROGRAM} odd") as server:
        yield server


@pytest.fixture(scope="module")
def ours(random_folder, fork_server):
    command = shlex.join([fork_server.python, *TINYSLM[1:], "mcp", str(random_folder)])
    with McpServer(command, environment={"OMP_NUM_THREADS": "1"}) as server:
        yield {tool.name: tool for tool in server.tools}


class TestTheirServer:
    """Our client with a server of the SDK."""

    def test_tools_have_schemas_and_answer(self, program):
        assert program["add"].description == "Add two numbers."
        assert program["add"].parameters["required"] == ["a"]
        assert set(program["add"].parameters["properties"]) >= {"a"}
        assert program["add"].call(a=2, b=3) == "5"

    def test_mistakes_are_told(self, program):
        for name, arguments in (("add", {"a": "x"}), ("add", {}), ("fail", {"why": "no"})):
            with pytest.raises(ToolError):
                program[name].call(**arguments)

    def test_the_environment_is_not_passed_on(self, program):
        found = program["variables"].call()
        assert "GIVEN" in found
        assert "MY_SECRET_KEY" not in found
        assert "PYTHONPATH" not in found

    def test_an_agent_uses_them_and_is_not_persuaded(self, program, scripted):
        engine = scripted(call_text("persuade", "{}"), call_text("add", '{"a": 40, "b": 2}'), "It is 42.")
        result = Agent(engine, list(program.values())).run("Go")
        assert [one.text for one in result.trace.returned][1] == "42"
        assert result.text == "It is 42."

    def test_names_can_begin_with_the_servers(self, odd):
        assert "maths_add" in [tool.name for tool in odd.tools]
        assert odd.tools[0].call(a=1) == "2"

    def test_tools_that_cannot_be_used_are_left_out(self, odd):
        (reason,) = odd.left_out
        assert "'maths_odd name' cannot be the name of a tool" in reason

    def test_what_hangs_is_given_up(self, odd, monkeypatch):
        monkeypatch.setattr(odd, "timeout", 0.2)
        hang = next(tool for tool in odd.tools if tool.name == "maths_hang")
        (outcome,) = ToolRunner([hang]).run([Call("c", "maths_hang", {})], 10)
        assert outcome.failed
        assert "timed out" in outcome.text

    @pytest.mark.parametrize(
        ("command", "words"),
        [
            (f"{PROGRAM} many", "more than 64 tools"),
            ("no-such-program-here", "does not work"),
            (shlex.join([sys.executable, "-c", "pass"]), "does not work"),
            (shlex.join([sys.executable, "-c", "print('hello'); input()"]), "does not work"),
            ("http://127.0.0.1:9/mcp", "does not work"),
            ("'unclosed", "not a command"),
            ("", "No MCP server"),
        ],
    )
    def test_servers_that_cannot_be_used(self, command, words):
        with pytest.raises(TinyslmError, match=words), McpServer(command, timeout=3):
            pass


class TestStandardInput:
    """What cannot be read is answered with an error, and the next message is read."""

    def test_lines_that_are_no_messages(self):
        pings = [b'{"jsonrpc": "2.0", "id": %d, "method": "ping"}' % number for number in range(20)]
        lines = {
            b"{": -32700,
            b"[" * 100_000: -32700,
            b"\xff": -32700,
            b'{"jsonrpc": "2.0", "id": NaN, "method": "ping"}': -32700,
            b'{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "ping"}': -32700,
            b'{"jsonrpc": "2.0", "id": "\\ud800", "method": "ping"}': -32700,
            b"": -32700,
            b"{}": -32600,
            b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}': -32600,
            b'"text"': -32600,
        }
        done = subprocess.run(
            [*shlex.split(PROGRAM), "strict"],
            input=b"".join(line + b"\n" for line in [*lines, *pings]),
            capture_output=True,
            timeout=120,
            check=True,
        )
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        errors = [one for one in answers if "error" in one]
        assert [one["error"]["code"] for one in errors] == list(lines.values())
        assert all(one["id"] is None and one["error"]["message"].endswith(".") for one in errors)
        # Requests that were read before standard input ended are answered, in any order.
        assert sorted(one["id"] for one in answers if one not in errors) == list(range(20))


class TestOurServer:
    """`tinyslm mcp MODEL` with the SDK's client, and with ours."""

    def test_the_SDKs_client_gets_values(self, random_folder):
        async def use():
            server = StdioServerParameters(
                command=TINYSLM[0], args=[*TINYSLM[1:], "mcp", str(random_folder)], env={"OMP_NUM_THREADS": "1"}
            )
            async with Client(server) as client:
                names = [tool.name for tool in (await client.list_tools()).tools]
                assert names == ["complete", "chat", "classify", "extract"]
                found = await client.call_tool("classify", {"text": "x", "labels": ["good", "bad", "none"]})
                read = await client.call_tool("extract", {"text": "x", "schema": PERSON})
                assert not found.is_error
                assert not read.is_error, read.content
                return found.structured_content, read.structured_content

        classified, person = asyncio.run(use())
        assert sorted(one["label"] for one in classified["scores"]) == ["bad", "good", "none"]
        assert sum(one["score"] for one in classified["scores"]) == pytest.approx(1)
        assert classified["label"] == classified["scores"][0]["label"]
        assert classified["scores"][0]["score"] >= classified["scores"][1]["score"]
        assert person.keys() == {"name", "adult"}
        assert isinstance(person["adult"], bool)

    def test_seeds_repeat(self, ours):
        texts = [ours["complete"].call(prompt="Once", max_tokens=20, seed=seed) for seed in (1, 1, 2)]
        assert texts[0] == texts[1] != texts[2]

    def test_chat(self, ours):
        messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
        assert isinstance(ours["chat"].call(messages=messages, max_tokens=5), str)

    @pytest.mark.parametrize(
        ("name", "arguments", "words"),
        [
            ("complete", {"prompt": "x" * 3000}, "3000 tokens"),
            ("complete", {"prompt": "x", "max_tokens": 0}, "max_tokens"),
            ("complete", {"prompt": "x", "temperature": -1}, "temperature"),
            ("chat", {"messages": []}, "messages"),
            ("chat", {"messages": [{"role": "pirate", "content": "x"}]}, "role"),
            ("classify", {"text": "x", "labels": ["a"]}, "labels"),
            ("classify", {"text": "x", "labels": ["a", "a"]}, "different"),
            ("extract", {"text": "x", "schema": {"type": "array"}}, "object"),
            ("extract", {"text": "x", "schema": {"type": "object", "not": {}}}, '"not"'),
        ],
    )
    def test_mistakes_are_told_in_words(self, ours, name, arguments, words):
        with pytest.raises(ToolError, match=words) as caught:
            ours[name].call(**arguments)
        assert "Traceback" not in str(caught.value)

    def test_an_agent_uses_our_server(self, ours, scripted):
        wish = {"text": "Rain.", "labels": ["wet", "dry"]}
        engine = scripted(call_text("classify", json.dumps(wish)), "Wet.")
        result = Agent(engine, [ours["classify"]]).run("What is it like?")
        assert json.loads(result.trace.returned[0].text)["label"] in ("wet", "dry")

    def test_over_http_on_this_computer_only(self, random_folder, fork_server):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [fork_server.path / "tinyslm", "mcp", str(random_folder), "--port", str(port)]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            wait_for(port, server)
            with McpServer(f"http://127.0.0.1:{port}/mcp") as client:
                tools = {tool.name: tool for tool in client.tools}
                assert isinstance(tools["complete"].call(prompt="Once", max_tokens=5), str)
            for name, value in (("Host", "evil.example"), ("Origin", "http://evil.example")):
                assert refused(port, name, value) in (403, 421), "as a page in a browser would come"
        finally:
            server.terminate()
            server.communicate(timeout=20)


def refused(port, name, value):
    """The status of a request with such a header."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", name: value}
    connection.request("POST", "/mcp", "{}", headers)
    status = connection.getresponse().status
    connection.close()
    return status


def wait_for(port, process):
    """Until something listens there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("nothing listens")
