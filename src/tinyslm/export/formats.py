"""The formats that a model can be exported to, by name; each is imported when it is asked for."""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tinyslm.core.errors import TinyslmError, did_you_mean, require_extra

if TYPE_CHECKING:
    from tinyslm.export.format import Format

PLACES = {
    "gguf": "tinyslm.export.gguf:GGUF",
    "onnx": "tinyslm.export.onnx:ONNX",
    "hf": "tinyslm.export.huggingface:HF",
}
RUNTIMES = {
    "gguf": ("llama.cpp", ("gguf", "libggml", "xllamacpp")),
    "onnx": ("ONNX Runtime", ("onnx", "onnxscript", "onnxruntime", "onnxruntime_genai")),
    "hf": ("transformers", ("transformers",)),
}
"""The program in which a format is checked, and the modules that this and writing it need."""

EXPORTS: dict[str, Callable[[Path], bool]] = {
    "gguf": lambda path: path.suffix == ".gguf" and path.is_file(),
    "onnx": lambda path: (path / "genai_config.json").is_file(),
}
"""Whether a path holds an export that is not a model folder, by format."""


class Target(NamedTuple):
    """One thing to make: a format, and one of its schemes."""

    format: "Format"
    scheme: str

    def __str__(self) -> str:
        return f"{self.format.name}:{self.scheme}"


def targets(wanted: str | Sequence[str]) -> list[Target]:
    """What `gguf,onnx:int4,hf:all` asks for, once each: a format alone means its usual schemes.

    Raises `TinyslmError` for a name that does not exist, and where nothing is asked for.
    """
    items = [item.strip() for item in (wanted.split(",") if isinstance(wanted, str) else wanted)]
    found: dict[str, Target] = {}
    for item in filter(None, items):
        for target in _targets(item):
            found[str(target)] = target
    if not found:
        raise TinyslmError("No format to export to was given.", f"Formats: {', '.join(PLACES)}.")
    return list(found.values())


def find_format(name: str) -> "Format":
    """The format called `name`."""
    if name not in PLACES:
        raise TinyslmError(f'Unknown export format "{name}".', did_you_mean(name, PLACES))
    module, _, attribute = PLACES[name].partition(":")
    found: Format = getattr(import_module(module), attribute)
    return found


def check_packages(targets: Sequence[Target]) -> None:
    """Raise `TinyslmError` for the first format whose runtime is not installed."""
    for form in {target.format.name: target.format for target in targets}.values():
        if not is_installed(form.name):
            raise require_extra(form.extra, f'Exporting to "{form.name}" and checking it in {RUNTIMES[form.name][0]}')


def is_installed(name: str) -> bool:
    """Whether everything that a format's runtime needs can be imported."""
    return all(find_spec(module) is not None for module in RUNTIMES[name][1])


def _targets(item: str) -> list[Target]:
    name, colon, scheme = item.partition(":")
    form = find_format(name.lower())
    if not colon:
        return [Target(form, usual) for usual in form.usual]
    if scheme.lower() == "all":
        return [Target(form, each) for each in form.schemes]
    if scheme.lower() not in form.schemes:
        raise TinyslmError(
            f'The format "{form.name}" has no scheme "{scheme}".', did_you_mean(scheme.lower(), form.schemes)
        )
    return [Target(form, scheme.lower())]
