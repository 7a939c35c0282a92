"""Write docs/reference/cli.md and docs/reference/python.md from the code: python docs/make_reference.py"""

import ast
import inspect
import json
import re
from pathlib import Path
from typing import Any

import tinyslm
from tinyslm.cli import app
from tinyslm.core.config import Section, fields, flatten
from tinyslm.training.config import RunConfig

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Made from the code by docs/make_reference.py: change the docstrings there, then run `make docs`. -->\n\n"
LONGEST_LINE = 76

Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    """Write both pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """The content of each page, by file name."""
    return {"cli.md": NOTE + cli_page(), "python.md": NOTE + python_page()}


def cli_page() -> str:
    """Every command as the command line itself documents it, and every setting of a run."""
    text = app.generate_docs(output_format="markdown")
    text = text.replace("`--[KEYWORD] DICT[STR, STR]`", "`--SECTION.KEY VALUE`")
    settings = (
        "## Settings\n\nEach can stand in a file for `--config`, or be given as `--section.key value`.\n"
        'Values marked "follows" follow from other settings unless they are given.\n'
    )
    return text.replace("# tinyslm\n", "# Command line\n", 1).rstrip() + "\n\n" + settings + "\n" + table(RunConfig)


def table(kind: type[Section]) -> str:
    """The settings of a class, with their defaults and meanings."""
    resolved = dict(flatten(kind().model_dump()))
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for key, field in fields(kind):
        follows = "" if field.default == resolved[key] else " (follows)"
        default = f"`{json.dumps(resolved[key])}`{follows}"
        rows.append(f"| `{key}` | {default} | {_escaped(field.description or '')} |")
    return "\n".join(rows) + "\n"


def python_page() -> str:
    """The public names with their signatures and docstrings."""
    parts = [
        "# Python\n",
        "What `import tinyslm` gives. Importing it is quick: torch is loaded when it is used.\n",
    ]
    for name in tinyslm.__all__:
        item = getattr(tinyslm, name)
        parts.append(f"## {name}\n")
        parts.append(described(item))
    return "\n".join(parts)


def described(item: Any) -> str:
    """Signature, docstring and, for a class, its fields or public methods."""
    tree = _source(item)
    if not isinstance(tree, ast.ClassDef):
        assert isinstance(tree, Function)
        return _code(_signature(item.__name__, tree, tree)) + prose(tree)
    if item is RunConfig:
        return prose(tree) + "\nIts sections and keys: [Settings](cli.md#settings).\n"
    if issubclass(item, Section):
        return prose(tree) + "\n" + table(item)
    methods = {node.name: node for node in tree.body if isinstance(node, Function)}
    text = _code(_signature(tree.name, methods.get("__init__"), tree)) + prose(tree)
    for name, method in methods.items():
        if not name.startswith("_") or name == "forward":
            text += f"\n### {tree.name}.{name}\n\n" + _code(_method(name, method)) + prose(method)
    return text


def prose(tree: Function | ast.ClassDef) -> str:
    """The docstring as Markdown: lines `name: meaning` become lists."""
    arguments = {argument.arg for argument in _arguments(tree)} if isinstance(tree, Function) else set()
    lines: list[str] = []
    for line in inspect.cleandoc(ast.get_docstring(tree) or "").splitlines():
        entry = re.match(r"( *)(\w+): (.*)", line)
        if entry and (entry[1] or entry[2] in arguments):
            if lines and lines[-1] and not lines[-1].startswith(("- ", "  ")):
                lines.append("")
            lines.append(f"- `{entry[2]}`: {_escaped(entry[3])}")
        else:
            inside = lines and lines[-1].startswith(("- ", "  ")) and line.strip()
            lines.append(f"  {_escaped(line.strip())}" if inside else _escaped(line.strip()))
    return "\n".join(lines).strip() + "\n"


def _source(item: Any) -> ast.AST:
    """The definition of a class or function, as it is written."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(item)))  # type: ignore[arg-type]
    return next(node for node in tree.body if getattr(node, "name", None) == item.__name__)


def _method(name: str, method: Function) -> str:
    decorators = {ast.unparse(decorator) for decorator in method.decorator_list}
    if "property" in decorators or "cached_property" in decorators:
        return f"{name}: {ast.unparse(method.returns) if method.returns else 'Any'}"
    return _signature(name, method, method)


def _signature(name: str, function: Function | None, tree: Function | ast.ClassDef) -> str:
    """`name(arguments) -> result`, an argument a line where one line is too long."""
    if function is None:  # a dataclass: its fields are its arguments
        assert isinstance(tree, ast.ClassDef)
        arguments = [ast.unparse(node) for node in tree.body if isinstance(node, ast.AnnAssign)]
    else:
        arguments = _argument_texts(function.args)
    result = f" -> {ast.unparse(tree.returns)}" if isinstance(tree, Function) and tree.returns else ""
    line = f"{name}({', '.join(arguments)}){result}"
    if len(line) <= LONGEST_LINE:
        return line
    return f"{name}(\n" + "".join(f"    {argument},\n" for argument in arguments) + f"){result}"


def _argument_texts(arguments: ast.arguments) -> list[str]:
    """Each argument with its type and default, without `self` and `cls`."""
    plain = arguments.args[1:] if arguments.args and arguments.args[0].arg in ("self", "cls") else arguments.args
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    texts = [_argument(argument, default) for argument, default in zip(plain, defaults, strict=True)]
    if arguments.vararg:
        texts.append("*" + ast.unparse(arguments.vararg))
    elif arguments.kwonlyargs:
        texts.append("*")
    return texts + [_argument(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")


def _arguments(function: Function) -> list[ast.arg]:
    return [*function.args.args, *function.args.kwonlyargs]


def _code(signature: str) -> str:
    return f"```python\n{signature}\n```\n\n"


def _escaped(text: str) -> str:
    """Text outside of backquotes with what Markdown and HTML would take for markup spelled out."""
    parts = text.split("`")
    return "`".join(part if i % 2 else re.sub(r"([<*])", r"\\\1", part) for i, part in enumerate(parts))


if __name__ == "__main__":
    main()
