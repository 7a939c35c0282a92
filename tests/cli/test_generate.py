"""`tinyslm generate` among other programs: pipes, forms, exit codes."""

import json
import os
import subprocess
from pathlib import Path

import pytest

SCHEMA = {
    "type": "object",
    "properties": {"price": {"type": "integer", "minimum": 0, "maximum": 999}, "on_sale": {"type": "boolean"}},
    "required": ["price", "on_sale"],
    "additionalProperties": False,
}
CHAT = ["--max-tokens", "6", "--seed", "1"]


@pytest.fixture(autouse=True)
def _schema_file(_new_folder) -> None:
    Path("s.json").write_text(json.dumps(SCHEMA))


def test_what_is_piped_in_is_the_prompt(tinyslm, finished: Path) -> None:
    common = ["generate", finished, "--max-tokens", "6", "--seed", "1", "--json"]
    piped = json.loads(tinyslm(*common, stdin="the old cat\n").out)
    assert piped == json.loads(tinyslm(*common, "-p", "the old cat").out)
    assert piped["prompt"] == "the old cat"
    assert json.loads(tinyslm(*common, "-p", "-", stdin="the old cat\n").out)["prompt"] == "the old cat\n"
    assert json.loads(tinyslm(*common, "-p", "", stdin="not read").out)["prompt"] == ""


def test_an_adapter(tinyslm, finished: Path) -> None:
    from tinyslm.model.folder import load_model
    from tinyslm.model.lora import add_adapters, save_adapters
    from tinyslm.model.lora_config import LoraConfig

    model, config = load_model(finished / "model"), LoraConfig(rank=2)
    add_adapters(model, config)
    save_adapters(model, Path("adapter"), config, finished / "model")
    common = ["generate", finished, "-p", "the", "--max-tokens", "6", "--seed", "1"]
    assert tinyslm(*common, "--adapter", "adapter").out == tinyslm(*common).out, "a new adapter changes nothing"
    assert "There is no adapter in nowhere" in tinyslm(*common, "--adapter", "nowhere").mistake()
    mistake = tinyslm("batch", "name", "-", "--endpoint", "http://x", "--adapter", "adapter").mistake()
    assert "--adapter does not go with --endpoint" in mistake


def test_a_prompt_that_ends_inside_a_token_is_healed(tinyslm, finished: Path) -> None:
    common = ["generate", finished, "-p", "the ", "--max-tokens", "2", "--seed", "1", "-n", "12", "--json"]
    healed = [json.loads(line)["text"] for line in tinyslm(*common).out.splitlines()]
    plain = [json.loads(line)["text"] for line in tinyslm(*common, "--no-heal").out.splitlines()]
    assert len(healed) == len(plain) == 12
    assert healed != plain


def test_standard_output_has_only_the_result(tinyslm, finished: Path) -> None:
    common = ["generate", finished, "--max-tokens", "6", "--seed", "1"]
    text = json.loads(tinyslm(*common, "-p", "the", "--json").out)["text"]
    assert tinyslm(*common, "-p", "the").out == f"the{text}\n"
    assert tinyslm(*common, stdin="the").out == f"{text}\n"


@pytest.mark.parametrize("schema", ["s.json", json.dumps(SCHEMA)])
def test_a_schema_is_kept(tinyslm, finished: Path, schema: str) -> None:
    ended = tinyslm("generate", finished, "-p", "the", "--schema", schema, "--max-tokens", "30", "-n", "3")
    assert (ended.code, ended.err) == (0, "")
    for line in ended.out.splitlines():
        value = json.loads(line)
        assert 0 <= value["price"] <= 999
        assert isinstance(value["on_sale"], bool)
    assert len(ended.out.splitlines()) == 3


def test_other_forms(tinyslm, finished: Path) -> None:
    Path("g.lark").write_text('start: "x" | "y" start')
    common = ["generate", finished, "-p", "the", "--max-tokens", "9"]
    assert tinyslm(*common, "--choice", "yes", "--choice", "--no").out.strip() in ("yes", "--no")
    assert set(tinyslm(*common, "--regex", "a[bc]{3}d").out.strip()) <= set("abcd")
    ended = tinyslm(*common, "--grammar", "g.lark")
    assert set(ended.out.strip()) <= set("xy")


def test_a_text_without_its_form_is_told(tinyslm, finished: Path) -> None:
    ended = tinyslm("generate", finished, "-p", "the", "--regex", "[a-c]{200}", "--max-tokens", "4")
    assert ended.code == 4
    assert "cut off before it satisfied its constraint" in ended.err
    assert set(ended.out.strip()) <= set("abc")


def test_answering_instead_of_going_on(tinyslm, finished: Path) -> None:
    plain = tinyslm("generate", finished, "-p", "a", *CHAT)
    chat = tinyslm("generate", finished, "-p", "a", "--chat", *CHAT)
    system = tinyslm("generate", finished, "-p", "a", "--system", "b", *CHAT)
    assert (plain.code, chat.code, system.code) == (0, 0, 0)
    assert len({plain.out, chat.out, system.out}) == 3
    assert plain.out.startswith("a")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--schema", "none.json"], "Could not read none.json"),
        (["--schema", '{"type": '], "The schema is not valid JSON"),
        (["--schema", "s.json", "--regex", "a"], "--schema and --regex exclude each other"),
        (["--schema", '{"type": "integer", "minimum": 5, "maximum": 1}'], "cannot be satisfied"),
        *(
            ([option, ""], f"The value of {option} is empty")
            for option in ("--schema", "--regex", "--choice", "--grammar")
        ),
        (["--regex", "("], "The regular expression cannot be used"),
        (["--grammar", "s.json"], "The Lark grammar cannot be used"),
        (["--grammar", "none.lark"], "Could not read none.lark"),
        (["--engine", "nativ"], 'Did you mean "native"?'),
    ],
)
def test_mistakes(tinyslm, finished: Path, arguments: list[str], expected: str) -> None:
    assert expected in tinyslm("generate", finished, "-p", "the", *arguments).mistake()


def test_what_is_piped_in_must_be_text(fork_server, finished: Path) -> None:
    command = [fork_server.path / "tinyslm", "generate", finished]
    ended = subprocess.run(command, input=b"caf\xe9 \xff", capture_output=True, check=False)
    assert ended.returncode == 2
    assert b"Standard input is not UTF-8 text" in ended.stderr


def test_a_pipeline_of_programs(fork_server, finished: Path) -> None:
    """`cat x | tinyslm generate MODEL --schema s.json | reader`, and a reader that leaves early."""
    Path("x").write_text("the old cat\n")
    reader = "python3 -c 'import json, sys; print(json.load(sys.stdin)[\"price\"])'"
    generate = f"{fork_server.path}/tinyslm generate {finished} --max-tokens"
    shell = f"set -o pipefail; cat x | {generate} 30 --schema s.json | {reader}"
    ended = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False, env=os.environ)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert 0 <= int(ended.stdout) <= 999
    shell = f"cat x | {generate} 4000 -n 40 --json | head -c 1 >/dev/null; echo ${{PIPESTATUS[1]}}"
    ended = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False, env=os.environ)
    assert (ended.stdout, ended.stderr) == ("0\n", "")
