"""JSON is read as what it should be, or refused in two lines."""

import codecs
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tinyslm.core import json_files
from tinyslm.core.errors import TinyslmError
from tinyslm.core.json_files import read_json


@dataclass(frozen=True)
class Part:
    name: str


@dataclass(frozen=True)
class Known:
    steps: int
    share: float
    parts: tuple[Part, ...] = ()


GOOD = {"steps": 3, "share": 1, "parts": [{"name": "é"}], "later": None}


@pytest.mark.parametrize("encode", [str.encode, lambda text: codecs.BOM_UTF8 + text.encode(), codecs.encode])
def test_a_file_is_read_as_what_it_should_be(tmp_path: Path, encode) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(encode(json.dumps(GOOD)))
    assert read_json(file) == GOOD
    assert read_json(file, Known) == Known(3, 1.0, (Part("é"),))
    (tmp_path / "link.json").symlink_to(file)
    assert read_json(tmp_path / "link.json", dict[str, object]) == GOOD


REFUSED = {
    "no JSON": (b'{"steps": ', "a.json is not valid JSON"),
    "empty": (b"", "a.json is not valid JSON"),
    "zeros": (b"\0" * 100, "a.json is not valid JSON"),
    "no text": (b'{"\xe9": 1}', "a.json is not UTF-8 text"),
    "brackets": (b"[" * 100_000, "is nested too deeply"),
    "objects": (b'{"a":' * 100_000, "is nested too deeply"),
    "null": (b"null", "a.json is damaged: it holds no JSON object"),
    "list": (b"[1, 2]", "a.json is damaged: it holds no JSON object"),
    "missing": (b'{"share": 1.5}', "a.json is damaged: steps is missing"),
    "text for a number": (b'{"steps": "3", "share": 1}', "steps = 3: must be a whole number"),
    "share for a number": (b'{"steps": 3.5, "share": 1}', "steps = 3.5"),
    "deep inside": (b'{"steps": 3, "share": 1, "parts": [{"name": "a"}, {"name": 4}]}', "parts.1.name = 4"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_wrong_is_named(tmp_path: Path, reason: str) -> None:
    content, problem = REFUSED[reason]
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(TinyslmError, match=problem) as caught:
        read_json(tmp_path / "a.json", Known, remedy="Do this.")
    assert caught.value.remedy == "Do this."
    assert "\n" not in caught.value.problem
    assert len(caught.value.problem) < 600


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for name, problem in (("", "is not a file"), ("pipe.json", "is not a file"), ("none.json", "does not exist")):
        with pytest.raises(TinyslmError, match=problem):
            read_json(tmp_path / name)
    with pytest.raises(TinyslmError, match="null"):
        read_json(tmp_path / "a\0b")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b"{}")
    os.truncate(file, 1 << 40)
    monkeypatch.setattr(json_files, "decode_small", None)
    with pytest.raises(TinyslmError, match=r"a\.json is too large: 1\.1 TB, where 16\.8 MB is the limit"):
        read_json(file)
