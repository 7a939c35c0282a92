"""The reference pages are what the code says."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


@pytest.mark.parametrize("name", ["cli.md", "python.md"])
def test_the_page_is_up_to_date(pages, name):
    written = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert written == pages[name], "run: python docs/make_reference.py"


def test_every_command_and_every_name_is_described(pages):
    import tinyslm

    for command in ("quickstart", "train", "generate", "evaluate", "show", "doctor", "config", "data prepare"):
        assert f"## tinyslm {command}\n" in pages["cli.md"]
    for name in tinyslm.__all__:
        assert f"\n## {name}\n" in pages["python.md"]
