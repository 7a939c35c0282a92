"""What `import tinyslm` gives."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import tinyslm


def test_importing_it_is_light() -> None:
    script = "import sys, tinyslm; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "tinyslm" in loaded
    assert not {"torch", "numpy", "pydantic", "tokenizers", "pyarrow", "rich", "cyclopts"} & set(loaded)


@pytest.mark.parametrize("name", tinyslm.__all__)
def test_every_name_is_there_documented_and_typed(name: str) -> None:
    item = getattr(tinyslm, name)
    assert item.__module__.startswith("tinyslm.")
    assert inspect.getdoc(item)
    functions = [item] if inspect.isfunction(item) else _methods(item)
    for function in functions:
        assert inspect.getdoc(function), function
        parameters = [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]
        missing = [parameter.name for parameter in parameters if parameter.annotation is inspect.Parameter.empty]
        assert not missing, f"{function.__qualname__}: {missing}"
        assert "return" in function.__annotations__, function.__qualname__


def _methods(item: type) -> list:
    """The public functions that a class defines itself."""
    found = (value.__func__ if isinstance(value, classmethod) else value for value in vars(item).values())
    functions = [value for value in found if inspect.isfunction(value) and value.__module__.startswith("tinyslm.")]
    return [function for function in functions if not function.__name__.startswith("_")]


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(tinyslm.__file__).read_text())
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.asname or alias.name for node in typed.body for alias in node.names}
    assert imported == set(tinyslm.__all__) == set(dir(tinyslm)) - {"__doc__", "__name__"}
    assert tinyslm.__all__ == sorted(tinyslm.__all__)
    assert Path(tinyslm.__file__).with_name("py.typed").exists()


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trane'"):
        _ = tinyslm.trane
    with pytest.raises(ImportError):
        from tinyslm import Trainer  # noqa: F401
