"""The shape of the code: who may import whom, what importing costs, and how long a file may get."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
HEAVY = {"torch", "transformers", "tokenizers", "vl_convert", "datasets", "pyarrow", "numpy"}


def test_folders_import_only_from_folders_above_them(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("importlinter.cli._configure_logging", lambda verbose: None)  # it disables all other loggers
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None) == EXIT_STATUS_SUCCESS


def test_contributing_lists_the_folders_in_the_order_of_their_layers() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]  # exhaustive, as the test above checks
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    listed = filter(None, (" | ".join(re.findall(r"`(\w+)/`", row)) for row in rows))
    assert list(listed) == [layer for layer in reversed(layers) if not layer.startswith(("(", "__"))]


@pytest.mark.parametrize("statement", ["import tinyslm", "import tinyslm.cli", "import tinyslm.core.config"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    program = f"import sys; {statement}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT / "src/tinyslm").as_posix())
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 450


def test_the_core_knows_no_torch() -> None:
    core = [path for path in SOURCES if path.parent.name == "core"]
    assert core
    for path in core:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in ("torch", "safetensors", "transformers")], path


def test_names_of_test_files_are_unique() -> None:
    """pytest imports them by their names alone."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)
