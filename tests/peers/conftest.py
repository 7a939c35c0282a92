"""Tests against large peers, in an environment of their own: `make test-peers`."""

from importlib.util import find_spec
from shutil import which

import pytest

# `make test` has no peers; `make test-peers` fails when it finds no tests.
_TRL = dict.fromkeys(("test_trl.py", "test_trl_grpo.py"), "trl")
_NEEDED = {"test_lm_eval.py": "lm_eval", "test_peft.py": "peft", "test_ray.py": "ray", **_TRL}
collect_ignore_glob = [] if which("moto_server") else ["storage"]
collect_ignore_glob += [file for file, package in _NEEDED.items() if find_spec(package) is None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Peers warn of each other's versions."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("default"))
