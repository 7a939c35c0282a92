"""Where a text is given: as it is, in a file, as standard input, or as the second argument."""

import json
from pathlib import Path

import pytest

from tinyslm.cli import app
from tinyslm.cli.asking import given_text
from tinyslm.core.errors import TinyslmError

COMMON = ("--max-tokens", "6", "--seed", "1", "--json")


def test_a_file_stands_for_its_text() -> None:
    Path("a.txt").write_bytes(b"\xef\xbb\xbfone\n two \r\n")
    assert given_text("@a.txt") == "one\n two "
    assert given_text("@@a.txt") == "@a.txt"
    assert given_text("a@b") == "a@b"
    Path("large.txt").write_bytes(b"x" * (17 << 20))
    for name, problem in (("nowhere.txt", "Could not read nowhere.txt"), ("large.txt", "is larger than"), ("", "read")):
        with pytest.raises(TinyslmError, match=problem):
            given_text(f"@{name}")


def test_the_second_argument_is_the_prompt(tinyslm, finished: Path) -> None:
    def generated(*arguments: object, stdin: str = "") -> dict:
        return json.loads(tinyslm("generate", finished, *arguments, *COMMON, stdin=stdin).out)

    Path("prompt.txt").write_text("the old cat\n")
    usual = generated("-p", "the old cat")
    assert usual == generated("the old cat") == generated("@prompt.txt") == generated("-p", "@prompt.txt")
    assert generated("-", stdin="the old cat\n")["prompt"] == "the old cat\n"
    assert generated("-p", "- the")["prompt"] == "- the"
    assert "Two prompts were given" in tinyslm("generate", finished, "a", "-p", "b").mistake()
    assert generated("@@x")["prompt"] == "@x"
    assert "Could not read none" in tinyslm("generate", finished, "@none").mistake()


def test_every_text_may_be_in_a_file(tinyslm, finished: Path) -> None:
    Path("system.txt").write_text("Be kind.\n")
    arguments = ("generate", "MODEL", "--system", "@system.txt")
    _, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    assert bound.arguments["options"].system == "Be kind."
    ended = tinyslm("look", finished, "--text", "@system.txt", "--out", "look.html")
    assert (ended.code, ended.out) == (0, "Written: look.html\n")
    for command in (
        ("chat", finished, "--system", "@none"),
        ("agent", finished, "@none"),
        ("agent", finished, "task", "--system", "@none"),
        ("batch", finished, "system.txt", "--template", "@none"),
        ("batch", finished, "system.txt", "--column", "x", "--system", "@none"),
        ("compare", finished, "--prompt", "@none"),
    ):
        assert "Could not read none: No such file or directory." in tinyslm(*command).mistake(), command
