"""What is typed into a chat becomes messages, and answers are broken between words."""

import pytest

from tinyslm.cli.terminal import Message, WordWrap


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Hello"], "Hello"),
        (["two \\", "lines"], "two \nlines"),
        (["a\rpaste\nof\nlines"], "a\npaste\nof\nlines"),
        (['"""', "  def f():", "", "    return 1", '"""'], "\n  def f():\n\n    return 1\n"),
        (['"""one', 'two"""'], "\none\ntwo"),
        (['"""/help"""'], "\n/help"),
        (['"""', "ends in \\", '"""  '], "\nends in \\\n"),
        (['says """ inside'], 'says """ inside'),
    ],
)
def test_lines_become_a_message(lines: list[str], message: str) -> None:
    typed = Message()
    *before, last = lines
    for line in before:
        assert typed.add(line) is None
        assert not typed.is_empty
    said = typed.add(last)
    assert said is not None
    assert said.strip("\n") == message.strip("\n")
    assert said.startswith("\n") == message.startswith("\n")


def wrapped(text: str, width: int, step: int) -> str:
    wrap = WordWrap(width)
    return "".join(wrap.add(text[start : start + step]) for start in range(0, len(text), step)) + wrap.end()


@pytest.mark.parametrize("step", [1, 3, 100])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one two three", "one two\nthree"),
        ("12345678 9", "12345678\n9"),
        ("1234567 9", "1234567\n9"),
        ("  ab cd\n\n  ef", "  ab cd\n\n  ef"),
        ("a 0123456789abc d", "a\n0123456789abc\nd"),
        ("a  b   c   d", "a  b   c\nd"),
        ("猫が好きです", "猫が好き\nです"),
        ("e\u0301e\u0301e\u0301 abcd", "e\u0301e\u0301e\u0301 abcd"),
        ("```\nlong line of code\n```\nlong line", "```\nlong line of code\n```\nlong\nline"),
        ("", ""),
        ("end ", "end"),
    ],
)
def test_lines_are_broken_between_words(text: str, shown: str, step: int) -> None:
    assert wrapped(text, 8, step) == shown


def test_words_are_shown_as_soon_as_they_are_complete() -> None:
    wrap = WordWrap(80)
    assert [wrap.add(piece) for piece in ("on", "e tw", "o\n", "x")] == ["", "one", " two\n", ""]
    assert wrap.end() == "x"
