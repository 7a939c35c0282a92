"""Settings: frozen, strict, from a file and overrides; all mistakes at once, with the place where each was made."""

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from tinyslm.core.config import Section, build_config, differences, fields, flatten, load_config, merge
from tinyslm.core.errors import TinyslmError


class Inner(Section):
    """A group."""

    size: int = Field(default=4, gt=0, description="How large.")
    rate: float = Field(default=0.5, description="How fast.")
    kind: Literal["a", "b"] = Field(default="a", description="Which.")
    names: tuple[str, ...] = Field(default=(), description="What they are called.")


class Outer(Section):
    """All."""

    inner: Inner = Field(default=Inner(), description="The inside.")
    on: bool = Field(default=False, description="Whether.")


def test_a_file_over_the_defaults_and_overrides_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text('[inner]\nsize = 5\nkind = "b"\n')
    assert load_config(Outer) == Outer()
    read = load_config(Outer, file, {"inner": {"size": "6"}, "on": "true"})
    assert (read.inner.size, read.inner.kind, read.inner.rate, read.on) == (6, "b", 0.5, True)


@pytest.mark.parametrize("name", ["some.yaml", "some.yml", "some.json"])
def test_other_forms_of_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"inner": {"size": 7, "names": ["x", "y"]}}')
    assert load_config(Outer, tmp_path / name).inner == Inner(size=7, names=("x", "y"))
    (tmp_path / name).write_text("")
    assert load_config(Outer, tmp_path / name) == Outer()


def test_every_mistake_is_told_with_its_place() -> None:
    wrong = {"inner": {"size": "many", "rate": "fast", "kind": "c", "names": "x", "sise": 1}, "on": "maybe", "off": 1}
    with pytest.raises(TinyslmError) as caught:
        build_config(Outer, wrong, origin="some.toml")
    assert caught.value.problem == (
        "7 mistakes in some.toml: inner.size = many: must be a whole number; inner.rate = fast: must be a number; "
        "inner.kind = c: must be 'a' or 'b'; inner.names = x: must be a list; "
        'there is no setting "inner.sise" (Did you mean "inner.size"?); on = maybe: must be true or false; '
        'there is no setting "off" (Allowed: inner, on.)'
    )
    assert "tinyslm config" in caught.value.remedy
    with pytest.raises(TinyslmError, match=r"^1 mistake in the settings: inner = 3: must be a section"):
        build_config(Outer, {"inner": 3})


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.toml", "[inner", "is not valid TOML"),
        ("a.yaml", "inner: [1\nb", "is not valid YAML"),
        ("a.yaml", "- 1", "holds no sections"),
        ("a.yaml", "[" * 5_000, "is not valid YAML"),
        ("a.toml", "a = " + "[" * 100_000, "is not valid TOML"),
        ("a.yaml", "!!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_a_file_that_is_broken(tmp_path: Path, name: str, content: str, problem: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TinyslmError, match=problem) as caught:
        load_config(Outer, tmp_path / name)
    assert "\n" not in caught.value.problem


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match=r"Could not read .*none\.toml"):
        load_config(Outer, tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TinyslmError, match=r"binary\.toml"):
        load_config(Outer, tmp_path / "binary.toml")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Outer().on = True
    with pytest.raises(AssertionError, match="without a description"):
        type("Silent", (Section,), {"__annotations__": {"size": int}, "size": 3})


def test_fields_and_differences() -> None:
    assert [key for key, _ in fields(Outer)] == ["inner.size", "inner.rate", "inner.kind", "inner.names", "on"]
    assert differences(Outer(), Outer(inner=Inner(size=5), on=True)) == ["inner.size: 4 -> 5", "on: False -> True"]
    assert differences(Outer(), Outer()) == []


Tree = st.recursive(
    st.integers(), lambda inside: st.dictionaries(st.sampled_from("abcd"), inside, max_size=3), max_leaves=8
).filter(lambda value: isinstance(value, dict))


@given(Tree, Tree)
def test_merging_keeps_what_is_not_replaced(base: dict, over: dict) -> None:
    merged = dict(flatten(merge(base, over)))
    assert merged.items() >= dict(flatten(over)).items()
    assert set(merged) <= set(dict(flatten(base))) | set(dict(flatten(over)))
    assert merge(base, {}) == base
    assert merge(base, base) == base
