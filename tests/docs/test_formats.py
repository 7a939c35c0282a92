"""The page of what can be exported where says what happens."""

import importlib.util
from pathlib import Path

import pytest

from tinyslm.export.formats import PLACES, find_format, targets
from tinyslm.model.families import FAMILIES

DOCS = Path(__file__).parents[2] / "docs"
AGAIN = "run: python docs/make_formats.py"


@pytest.fixture(scope="module")
def made():
    spec = importlib.util.spec_from_file_location("make_formats", DOCS / "make_formats.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def claims(made):
    return made.read_page((DOCS / "reference/formats.md").read_text(encoding="utf-8"))


def test_the_page_has_every_family_format_and_scheme(made, claims):
    assert list(claims) == [str(target) for target in targets([f"{name}:all" for name in PLACES])], AGAIN
    assert all(list(found) == list(FAMILIES) for found in claims.values()), AGAIN
    assert made.page(claims) == (DOCS / "reference/formats.md").read_text(encoding="utf-8"), AGAIN


def test_a_page_can_be_read_again(made):
    claims = {f"{name}:{scheme}": {"a": "yes", "b": "yes"} for name in PLACES for scheme in ("x", "y")}
    claims["gguf:x"]["b"] = "it has no place for | in a name"
    claims["gguf:y"] = {"a": "another reason", "b": claims["gguf:x"]["b"]}
    assert made.read_page(made.page(claims)) == claims


@pytest.mark.parametrize("family", list(FAMILIES))
def test_what_the_page_says_of_the_most_exact_schemes_is_so(made, claims, family, tmp_path):
    """ONNX takes seconds, and has tests of its own; transformers is compared with in those of families."""
    wanted = "gguf:f32,onnx:fp32" if family in ("gemma3", "phi", "gpt2") else "gguf:f32"
    original = made.write_original(family, tmp_path / "model")
    for target, found in made.tried(original, targets(wanted), tmp_path):
        assert found == claims[str(target)][family], f"{target}: {AGAIN}"


def test_the_guide_names_the_schemes_that_there_are():
    guide = (DOCS / "exporting.md").read_text(encoding="utf-8")
    for name in PLACES:
        form = find_format(name)
        rest = [scheme for scheme in form.schemes if scheme not in form.usual]
        row = next(line for line in guide.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.endswith(f"| `{' '.join(form.usual)}`, `{' '.join(rest)}` |")
