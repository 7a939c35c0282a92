"""Whatever small text is read, a byte order mark is followed and does not become part of it."""

import io
import json
import sys
from pathlib import Path

import pytest

from tinyslm.cli.asking import ConstraintOptions, PromptOptions
from tinyslm.cli.generate import _read_prompt
from tinyslm.core.config import read_config_file
from tinyslm.core.errors import TinyslmError
from tinyslm.core.text_files import lines_as_they_come, read_small_text, without_mark
from tinyslm.inference.output_constraint import read_schema
from tinyslm.inference.settings import SamplingSettings
from tinyslm.serving.api_keys import make_key, read_keys

ENCODINGS = ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
SCHEMA = {"type": "object", "properties": {"größe": {"type": "string"}}}
KEY, LINE = make_key("ann")


def template(path):
    return PromptOptions(template=f"@{path}").prompt_template(SamplingSettings()).template


def grammar(path):
    return ConstraintOptions(grammar=str(path)).constraint().value


def standard_input(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
        return _read_prompt("-", piped=True)


SMALL = {
    "schema": (lambda path: read_schema(str(path)), json.dumps(SCHEMA, ensure_ascii=False), SCHEMA),
    "yaml": (read_config_file, "train:\n  steps: 4\n", {"train": {"steps": 4}}),
    "toml": (read_config_file, "[train]\nsteps = 4\n", {"train": {"steps": 4}}),
    "json": (read_config_file, '{"train": {"steps": 4}}', {"train": {"steps": 4}}),
    "lark": (grammar, 'start: "ü"\n', 'start: "ü"\n'),
    "jinja": (template, "{{ title }} – ü", "{{ title }} – ü"),
    "keys": (lambda path: read_keys(path).name(KEY), LINE + "\n", "ann"),
    "prompt": (standard_input, "Grüße\n", "Grüße\n"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", SMALL)
def test_a_byte_order_mark_is_followed_in_small_inputs(tmp_path, kind, encoding):
    read, text, expected = SMALL[kind]
    file = tmp_path / f"file.{kind}"
    file.write_bytes(("\ufeff" + text).encode(encoding))
    assert read(file) == expected
    file.write_bytes(text.encode())
    assert read(file) == expected


def test_what_cannot_be_read_is_named(tmp_path):
    file = tmp_path / "a.json"
    for content, problem in [
        (b"{\n\xff}", f"{file} is not UTF-8 text (line 2)."),
        (b"\xff\xfea", f"{file} is not UTF-16-LE text (line 1)."),
        (b"x" * 11, f"{file} is larger than 10 B."),
    ]:
        file.write_bytes(content)
        with pytest.raises(TinyslmError) as error:
            read_small_text(file, "--schema", limit=10)
        assert error.value.problem == problem
        assert "--schema" in error.value.remedy
    with pytest.raises(TinyslmError, match=r"Could not read .*none"):
        read_small_text(Path(tmp_path / "none"), "--schema")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", ["", "\n", "Grüße\nzwei\r\n\ndrei"])
def test_lines_of_standard_input(text, encoding):
    data = ("\ufeff" + text).encode(encoding)
    assert list(lines_as_they_come(io.BytesIO(data))) == text.splitlines(keepends=True)


def test_a_line_is_passed_on_before_the_next_one_arrives():
    class Typed(io.RawIOBase):
        """Gives a line at each read, and notes how often it was asked."""

        reads = 0

        def readable(self):
            return True

        def readinto(self, target):
            self.reads += 1
            line = b"Hi\n"
            target[: len(line)] = line
            return len(line)

    typed = Typed()
    lines = lines_as_they_come(io.BufferedReader(typed))
    assert [next(lines), next(lines)] == ["Hi\n", "Hi\n"]
    assert typed.reads == 2


def test_damaged_standard_input_is_named():
    lines = lines_as_they_come(io.BytesIO(b"one\ntw\xff\n"))
    assert next(lines) == "one\n"
    with pytest.raises(TinyslmError, match=r"not UTF-8 text \(line 2\)"):
        next(lines)
    with pytest.raises(TinyslmError, match="rows is damaged: it is not whole UTF-16-LE text"):
        without_mark(io.BytesIO(b"\xff\xfea\0b"), "rows").read()
