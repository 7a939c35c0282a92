"""`tinyslm agent` and `tinyslm mcp`, as a user meets them."""

import io
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tinyslm.agents.named_tools import NAMES, named_tools
from tinyslm.agents.trace import Trace
from tinyslm.cli import main
from tinyslm.core.errors import TinyslmError

PROGRAM = shlex.join([sys.executable, str(Path(__file__).with_name("mcp_program.py"))])
SHORT = ("--max-steps", 2, "--max-tokens", 150, "--temperature", 1.2, "--seed", 3)


@dataclass
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs a command here: `command("agent", folder, "task")`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "argv", ["tinyslm", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        written = capsys.readouterr()
        return Ended(code, written.out, written.err)

    return run


def test_a_task_its_trace_and_its_replay(command, random_folder, tmp_path):
    ended = command(
        *("agent", random_folder, "Add.", "--tools", "calculator,clock", "--call-first", "--trace", "t.jsonl", *SHORT)
    )
    assert ended.code in (0, 3), ended
    assert "[step 1] c" in ended.err
    trace = Trace.load(tmp_path / "t.jsonl")
    assert trace.said[0].calls
    assert trace.end.text == ended.out.strip() or not ended.out.isprintable()
    shown = command("agent", "--replay", "t.jsonl")
    assert shown.code == 0
    assert "tools: calculator, clock" in shown.out
    again = command("agent", random_folder, "--replay", "t.jsonl")
    assert (again.code, again.out) == (0, "The same in 2 steps.\n")


def test_a_replay_that_differs(command, random_folder, tmp_path):
    command("agent", random_folder, "Add.", "--tools", "calculator", "--call-first", "--trace", "t.jsonl", *SHORT)
    lines = (tmp_path / "t.jsonl").read_text().splitlines()
    said = json.loads(lines[-2]) | {"text": "Something else."}
    (tmp_path / "t.jsonl").write_text("\n".join([*lines[:-2], json.dumps(said), lines[-1]]) + "\n")
    again = command("agent", random_folder, "--replay", "t.jsonl")
    assert again.code == 1
    assert "step 2, text:\n  recorded: Something else." in again.out


def test_the_exit_code_says_whether_a_limit_ended_it(command, random_folder):
    """A random model says as many tokens as it may."""
    ended = command("agent", random_folder, "-", "--max-tokens", 3, "--seed", 1, "--temperature", 2, stdin="Hello")
    assert ended.code == 3
    assert "--max-tokens" in ended.err


def test_json(command, random_folder):
    ended = command("agent", random_folder, "Add.", "--tools", "calculator", "--call-first", "--json", *SHORT)
    told = json.loads(ended.out)
    assert told.keys() == {"text", "finish", "steps", "calls"}
    assert told["calls"][0].keys() == {"name", "arguments", "result", "failed"}
    assert (told["finish"] == "answer") == (ended.code == 0)


def test_tools_of_an_MCP_server(command, random_folder, tmp_path):
    ended = command(
        *("agent", random_folder, "Add.", "--mcp", f"maths={PROGRAM}", "--tools", "clock", "--trace", "t.jsonl", *SHORT)
    )
    assert ended.code in (0, 3), ended
    names = [one["function"]["name"] for one in Trace.load(tmp_path / "t.jsonl").start.tools]
    assert {"clock", "maths_add", "maths_persuade"} <= set(names)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["agent"], "There is no task"),
        (["agent", "MODEL"], "There is no task"),
        (["agent", "MODEL", "x", "--tools", "shell"], "no tool 'shell'"),
        (["agent", "MODEL", "x", "--tools", "calculater"], 'Did you mean "calculator"?'),
        (["agent", "MODEL", "x", "--tools", "files"], "files=FOLDER"),
        (["agent", "MODEL", "x", "--tools", "files=missing"], "no folder missing"),
        (["agent", "MODEL", "x", "--tools", "calculator=1"], "Write calculator"),
        (["agent", "MODEL", "x", "--tools", "fetch=*"], "not a host"),
        (["agent", "MODEL", "x", "--tools", "clock,clock"], "several tools clock"),
        (["agent", "MODEL", "x", "--max-steps", "0"], "--max-steps"),
        (["agent", "MODEL", "x", "--trace", "/proc/x/t.jsonl"], "/proc/x/t.jsonl"),
        (["agent", "MODEL", "x", "--mcp", "no-such-program"], "does not work"),
        (["agent", "--replay", "missing.jsonl"], "missing.jsonl"),
        (["agent", "missing", "x"], "missing"),
        (["mcp", "missing"], "missing"),
        (["mcp", "MODEL", "--port", "0"], "no port"),
    ],
)
def test_mistakes_are_told_in_two_lines(command, random_folder, arguments, words):
    ended = command(*[random_folder if one == "MODEL" else one for one in arguments])
    assert ended.code == 2, ended
    assert len(ended.err.splitlines()) == 2, ended
    assert words in ended.err
    assert not ended.out


def test_every_tool_has_a_name(tmp_path):
    (tmp_path / "note.md").write_text("A note.")
    given = [f"{name}={tmp_path}" for name in ("files", "notes")] + [
        "calculator",
        "clock",
        "fetch=a.org",
        "fetch=b.org",
    ]
    names = [tool.name for tool in named_tools(given)]
    assert names == ["list_files", "read_file", "search_files", "search_notes", "calculator", "clock", "fetch"]
    assert [tool.name for tool in named_tools([f"write={tmp_path}"])][-1] == "write_file"
    assert {name.partition("=")[0] for name in given} | {"write"} == set(NAMES)
    assert named_tools([]) == []


def test_the_clock():
    (clock,) = named_tools(["clock"])
    assert clock(zone="UTC").endswith(" UTC")
    assert clock()
    for zone in ("Nowhere/City", "../../etc/passwd", "/etc/passwd", "\0"):
        with pytest.raises(Exception, match="no time zone"):
            clock(zone=zone)


def test_no_tool_reaches_the_network_or_a_shell_unless_listed():
    for name in ("shell", "eval", "python", "http", ""):
        with pytest.raises(TinyslmError, match="no tool"):
            named_tools([name])
    with pytest.raises(TinyslmError, match="fetch=HOST"):
        named_tools(["fetch"])
