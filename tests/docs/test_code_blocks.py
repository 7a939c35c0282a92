"""Every code block of README.md and of the guides in docs/ runs.

The blocks of a page run in order, in a new folder: `python` blocks in one namespace, `sh` and `bash` blocks with
`tinyslm` on the path; the first failing line fails the page. Other languages (`text`, `toml`, `console`) only show
something. A page can say otherwise in HTML comments:

    <!-- test: run COMMANDS -->              run shell commands here, such as making small inputs
    <!-- test: instead COMMANDS -->          run shell commands instead of the next block, such as a shorter form of it
    <!-- test: skip because REASON -->       do not run the next block

The programs are forked from one that has imported everything; the page in `STARTED` starts the installed ones.

README.md is also read in terminals and has no such comments; its directives are in `README`, by a block's first line.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tinyslm.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = {
    "make quickstart": "skip because it takes minutes; docs/first-model.md runs its short form",
    "tinyslm plan": """instead mkdir my-texts; cp "$(python -c 'import json; print(json.__path__[0])')"/*.py my-texts
        cp "$(python -c 'import shutil; print(shutil.__file__)')" my-texts
        tinyslm plan my-texts/ --tokens 4k --model.context 64
        tinyslm train my-texts/ --out runs/first --model.dim 64 --model.depth 1 --model.context 64 --train.steps 4
        tinyslm generate runs/first --prompt "def " --max-tokens 5""",
}
STARTED = "README"
SHELL = ("sh", "bash")
PIECE = re.compile(
    r"""^[ ]*<!--\ test:\ (?P<directive>.*?)\ ?-->$
    | ^(?P<indent>[ ]*)```(?P<language>\w+).*?\n(?P<code>.*?)^(?P=indent)```$""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
RUNNER = """
import json, subprocess, sys
names = {"__name__": "page"}
for place, line, language, code in json.load(sys.stdin):
    print(f"--- {place}:{line}", flush=True)
    if language == "python":
        exec(compile("\\n" * line + code, place, "exec"), names)
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True, stdin=subprocess.DEVNULL)
"""

Step = tuple[str, int, str, str]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_code_block_of_the_page_runs(page, tmp_path, fork_server):
    directives = README if page.name == "README.md" else {}
    installed = Path(sys.executable).parent
    python, path = (sys.executable, installed) if page.stem == STARTED else (fork_server.python, fork_server.path)
    steps = list(steps_of(page.read_text(encoding="utf-8"), page.name, directives))
    environment = os.environ | {
        "PATH": os.pathsep.join(map(str, (path, installed, os.environ["PATH"]))),
        # Tests run side by side: more threads than cores make every one of them slow.
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [python, "-c", RUNNER],
        input=json.dumps(steps),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def steps_of(markdown: str, place: str, directives: Mapping[str, str] | None = None) -> Iterator[Step]:
    """What to run for a page: (page, line, language, code). `directives` are those of blocks that begin so."""
    pending, apart = "", dict(directives or {})
    for piece in PIECE.finditer(markdown):
        line = markdown.count("\n", 0, piece.start()) + 1
        if directive := piece["directive"]:
            assert not pending, f"{place}:{line}: two directives for one block"
            verb, _, rest = directive.partition(" ")
            if verb == "run":
                yield place, line, "sh", rest
            else:
                known = verb == "instead" or (verb == "skip" and rest.startswith("because "))
                assert known, f"{place}:{line}: no such directive: {verb}"
                pending = directive
        elif piece["language"] in ("python", *SHELL):
            begins = next((begin for begin in apart if piece["code"].startswith(begin)), None)
            verb, _, rest = (apart.pop(begins) if begins else pending).partition(" ")
            pending = ""
            if not verb:
                yield place, line, piece["language"], _dedented(piece["code"], piece["indent"])
            elif verb == "instead":
                yield place, line, "sh", rest
    assert not pending, f"{place}: a directive without a block: {pending}"
    assert not apart, f"{place}: directives without a block: {apart}"


def test_directives_take_the_place_of_blocks():
    page = """
<!-- test: run mkdir texts -->
```sh
ls
```
<!-- test: instead tinyslm quickstart
--minutes 0.1 -->
```sh
tinyslm quickstart
```
1. In a list:
   ```python
   if True:
       x = 1
   ```
<!-- test: skip because it needs a network -->
```python
download()
```
```text
output
```
"""
    assert [step[2:] for step in steps_of(page, "page.md")] == [
        ("sh", "mkdir texts"),
        ("sh", "ls\n"),
        ("sh", "tinyslm quickstart\n--minutes 0.1"),
        ("python", "if True:\n    x = 1\n"),
    ]


@pytest.mark.parametrize(
    "page",
    [
        "<!-- test: skip -->\n```sh\nls\n```\n",
        "<!-- test: skip because it is slow -->\n",
        "<!-- test: jump because x -->\n",
    ],
    ids=["no reason", "no block", "no such directive"],
)
def test_a_directive_that_says_nothing_is_a_mistake(page):
    with pytest.raises(AssertionError, match=r"page\.md"):
        list(steps_of(page, "page.md"))


def test_the_readme_names_every_command_and_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [name for name in commands() if f"`tinyslm {name}" not in text]
    assert len(text.splitlines()) <= 120
    assert "<!--" not in text


def commands() -> list[str]:
    """The commands of the command line, as `tinyslm --help` lists them."""
    return [name for name in app if not name.startswith("-")]


def _dedented(code: str, indent: str) -> str:
    return "".join(line.removeprefix(indent) for line in code.splitlines(keepends=True))
