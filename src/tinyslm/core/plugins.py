"""Load plugins: the packs of tinyslm, entry points "tinyslm.plugins" of installed packages, and files (`--plugin`).

A plugin is Python code that adds values to registries, for instance `TASKS.add("mine", TaskConfig(...))`. It runs
in this process, with the user's permissions.
"""

import importlib.util
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import sha256_file
from tinyslm.core.printable import one_line

GROUP = "tinyslm.plugins"
SHIPPED = ("tinyslm.packs",)
"""Modules whose import adds graders and tasks."""
_loaded: dict[str, str] = {}
"""The files that were loaded, as they were given, with their hashes."""


def load_plugins(files: tuple[str, ...] = ()) -> None:
    """Import the packs, the plugins of installed packages, and these files. Raises `TinyslmError` if a plugin fails."""
    for module in SHIPPED:
        import_module(module)
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            raise _failure(f"The plugin {point.name} ({point.value})", error) from error
    for file in files:
        _load_file(Path(file))


def loaded_files(needed: Iterable[str] = ()) -> dict[str, str]:
    """The files that were loaded, with their hashes. Those that are needed, and were not, are loaded now."""
    if missing := tuple(file for file in needed if file not in _loaded):
        load_plugins(missing)
    return dict(_loaded)


def _load_file(path: Path) -> None:
    name = f"tinyslm_plugin_{path.stem}"
    if not path.is_file() or path.suffix != ".py":
        raise TinyslmError(f"{path} is not a Python file.", "Give the path of a file that ends in .py.")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except TinyslmError:
        raise
    except Exception as error:
        raise _failure(f"The plugin {path}", error) from error
    _loaded[str(path)] = sha256_file(path)


def _failure(what: str, error: Exception) -> TinyslmError:
    return TinyslmError(
        f"{what} failed: {type(error).__name__}: {one_line(str(error), 200)}", "Correct the plugin, and try again."
    )
