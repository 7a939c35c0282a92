"""Errors of users in two lines, and registries that suggest the right name."""

import pickle

import pytest

from tinyslm.core.console import fail
from tinyslm.core.errors import TinyslmError, did_you_mean, require_extra
from tinyslm.core.registry import Registry


def test_an_error_keeps_its_two_parts_between_processes() -> None:
    error = pickle.loads(pickle.dumps(TinyslmError("It is wrong.", "Mend it.")))
    assert (error.problem, error.remedy, str(error)) == ("It is wrong.", "Mend it.", "It is wrong.\nMend it.")


def test_an_error_is_shown_in_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    fail("The name\na\x1b[31m is\nwrong.", "Give\nanother.")
    assert capsys.readouterr().err == "error: The name a\\x1b[31m is wrong.\nGive another.\n"


def test_a_name_like_an_allowed_one_is_suggested() -> None:
    assert did_you_mean("dept", ["depth", "dim"]) == 'Did you mean "depth"?'
    assert did_you_mean("zzz", ["dim", "depth"]) == "Allowed: depth, dim."
    assert did_you_mean("zzz", []) == ""


def test_a_missing_extra_says_how_to_install_it() -> None:
    error = require_extra("hub", "Reading data sets")
    assert 'Reading data sets needs the optional dependency group "hub"' in error.problem
    assert "pip install 'tinyslm[hub]'" in error.remedy


def test_a_registry() -> None:
    registry: Registry[int] = Registry("size")
    registry.add("small", 1)
    registry.register("large")(9)
    assert (registry["small"], registry["large"], list(registry)) == (1, 9, ["small", "large"])
    assert "small" in registry
    assert "medium" not in registry
    with pytest.raises(TinyslmError) as caught:
        registry["smal"]
    assert (caught.value.problem, caught.value.remedy) == ('Unknown size "smal".', 'Did you mean "small"?')
    with pytest.raises(AssertionError, match="registered twice"):
        registry.add("small", 2)
