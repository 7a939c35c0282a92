"""The command line itself: its help, its options, and what it says about mistyped ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from the_command import COMMAND, Ended

from tinyslm.cli.options import SETTING, gather
from tinyslm.hardware.compiling import cache_folder
from tinyslm.model.kernels.library import kernels

VERBS = ["quickstart", "train", "generate", "evaluate", "show", "doctor", "config", "data", "tokenizer"]


@pytest.mark.parametrize(
    ("argument", "expected"), [("--help", [f" {verb} " for verb in VERBS]), ("trian", ["MODULES"])]
)
def test_help_names_every_verb_and_loads_nothing_heavy_nor_does_a_mistake(argument: str, expected: list[str]) -> None:
    script = (
        "import sys, tinyslm.cli\n"
        f"sys.argv = ['tinyslm', '{argument}']\n"
        "try: tinyslm.cli.main()\n"
        "finally: print('MODULES', *{name.partition('.')[0] for name in sys.modules})"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout
    assert all(word in said for word in expected)
    modules = said.partition("MODULES")[2]
    heavy = "torch numpy pydantic yaml tokenizers tiktoken pyarrow vl_convert datasets psutil"
    assert not set(heavy.split()) & set(modules.split())


def test_the_help_of_no_verb_loads_torch() -> None:
    script = (
        "import sys, tinyslm.cli\n"
        "from tinyslm.cli import app\n"
        "for name in [*app]:\n"
        "    for inner in [[]] if name.startswith('-') else [[], *([one] for one in app[name] if one[0] != '-')]:\n"
        "        sys.argv = ['tinyslm', name, *inner, '--help']\n"
        "        try: tinyslm.cli.main()\n"
        "        except SystemExit: pass\n"
        "        assert 'torch' not in sys.modules, sys.argv\n"
        "print('SEEN', len([*app]))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for usage in ("Usage: tinyslm deploy", "Usage: tinyslm packs demo", "SEEN "):
        assert usage in ended.stdout


@pytest.mark.parametrize(
    "verb", [*(verb.split() for verb in VERBS), ["data", "prepare"], ["tokenizer", "train"]], ids=" ".join
)
def test_every_verb_has_help(tinyslm, verb: list[str]) -> None:
    ended = tinyslm(*verb, "--help")
    assert ended.code == 0
    assert ended.out.startswith(f"Usage: tinyslm {' '.join(verb)}")
    assert "\x1b" not in ended.out


def test_hints_name_a_command_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinyslm.cli.progress import command

    monkeypatch.setenv("PATH", str(Path(COMMAND).parent))
    assert command() == "tinyslm"
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/tinyslm"])
    assert command() == "/somewhere/bin/tinyslm"
    monkeypatch.setattr(sys, "argv", ["/somewhere/tinyslm/__main__.py"])
    assert command() == f"{sys.executable} -m tinyslm"


def test_the_version(tinyslm) -> None:
    from importlib.metadata import version

    assert tinyslm("--version") == Ended(0, version("tinyslm") + "\n", "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("trian texts", 'Unknown command "trian". Did you mean "train"?'),
        ("data prep", 'Did you mean "prepare"?'),
        ("frobnicate", 'Unknown command "frobnicate".'),
        ("train texts --outt run", "Unknown option: --outt. Did you mean --out?"),
        ("generate model --temprature 1", "Did you mean --temperature?"),
        ("generate", "error: MODEL is missing."),
        ("look model", "error: --text is missing."),
        ("generate model Once upon a time", "error: Unexpected: upon a time. Quotes make one text of several words."),
        ("generate model --seed abc", "--seed abc: must be a whole number"),
        ("generate model --top-p 2 --min-p 3", "--top-p 2: must be less than or equal to 1; --min-p 3:"),
        ("generate model --model.dim 3", "Unknown option: --model.dim. This command has no settings."),
        ("train texts --out", "--out requires an argument"),
        ("train texts --model 3 --model.dim 4 --out run", "Unknown option: --model."),
        ("train", "Nothing to train on was given."),
        ("data prepare --out shards", "No text was given."),
        ("tokenizer train --out folder", "No text was given."),
        ("train texts --out run --minutes soon", "--minutes"),
        ("train texts --resume run", "--resume takes no paths"),
    ],
)
def test_a_mistyped_command_is_told_in_two_lines(tinyslm, tmp_path, arguments: str, expected: str) -> None:
    assert expected in tinyslm(*arguments.split()).mistake()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "gathered"),
    [
        ("train a --model.depth 6 b", ["train", "a", f"{SETTING}=model.depth=6", "b"]),
        ("train --model.depth=6", ["train", f"{SETTING}=model.depth=6"]),
        ("train --train.steps -4", ["train", f"{SETTING}=train.steps=-4"]),
        ("train --train.compile --out run", ["train", f"{SETTING}=train.compile=true", "--out", "run"]),
        ("train --train.compile", ["train", f"{SETTING}=train.compile=true"]),
        ("train --data.text_column a=b", ["train", f"{SETTING}=data.text_column=a=b"]),
        (
            "train --tokenizer t --tokenizer.kind char",
            ["train", "--tokenizer", "t", f"{SETTING}=tokenizer.kind=char"],
        ),
        ("train - --out run", ["train", "--out", "run", "--", "-"]),
        ("train a - -- --b.c", ["train", "a", "--", "-", "--b.c"]),
        ("generate m --prompt -", ["generate", "m", "--prompt", "-"]),
        ("generate m -p --a.b --json", ["generate", "m", "-p", "--a.b", "--json"]),
        ("generate m --prompt", ["generate", "m", "--prompt"]),
        ("generate m --prompt=a.b", ["generate", "m", "--prompt=a.b"]),
    ],
)
def test_settings_and_standard_input_are_gathered(given: str, gathered: list[str]) -> None:
    assert list(gather(given.split())) == gathered


def test_the_doctor_speaks_json(tinyslm) -> None:
    ended = tinyslm("doctor", "--json")
    findings = json.loads(ended.out)
    assert {"cores", "memory", "matrix products"} <= {finding["name"] for finding in findings}
    assert all(finding.keys() == {"name", "value", "meaning"} for finding in findings)


def test_the_doctor_compiles_what_is_missing(tinyslm) -> None:
    assert not tinyslm("doctor", "--compile", "--json").code
    made = {path.name.partition("-")[0] for path in cache_folder().glob("*.so")}
    assert "step" in made
    assert "kernels" in made or not (kernels(torch.float32) or kernels(torch.bfloat16))


def test_the_command_is_installed() -> None:
    assert subprocess.run([COMMAND, "--version"], check=True, capture_output=True).stdout
