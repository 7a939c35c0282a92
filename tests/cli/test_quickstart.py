"""`tinyslm quickstart`, in three seconds instead of five minutes."""

import json
from pathlib import Path

import pytest
from the_command import entries

from sentences import sentences
from tinyslm.core.files import free_folder

FILE = '''"""{text}"""


def find_{number}(number, other):
    """{more}"""
    result = number * other + {number}
    for step in range({number}):
        result -= step
    return result
'''


@pytest.fixture
def python() -> Path:
    """A folder of 80 small Python files."""
    folder = Path("python")
    folder.mkdir()
    for number in range(80):
        content = FILE.format(text=sentences(4, number), more=sentences(1, number + 80).strip(), number=number)
        (folder / f"{number:02}.py").write_text(content)
    return folder


@pytest.mark.usefixtures("machine_looked_at_briefly")
def test_a_quickstart(tinyslm, python: Path) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    ended = tinyslm("quickstart", "--minutes", "0.03", "--text", python, "--out", "mine")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("Training a language model from scratch on python, for 0.03 minutes.\n")
    assert "\nPlanned: " in ended.out
    assert "\nComparing with what needs no model\ncompressing the text" in ended.out
    assert "\ncompleting functions  100%" in ended.out
    rows = [line.split("  ")[0] for line in ended.out.splitlines()]
    for name in ("unigram", "xz -9"):
        assert name in rows
    for said in (
        "of held-out text (less is better):",
        "this model, ",
        "The plan expected ",
        "Completions of ",
        "(originals cut the same way: ",
        "Model folder: mine-2/model\n",
        "Loss plot:    mine-2/report.png\n",
        "Report:       mine-2/report.html\n",
    ):
        assert said in ended.out
    next_steps = ended.out[ended.out.index("Try next:") :].splitlines()[1:]
    assert [line.split()[:2] for line in next_steps] == [["tinyslm", verb] for verb in ("generate", "show", "train")]
    result = json.loads(Path("mine-2/result.json").read_text())
    assert result["baselines"]["unigram"] > 0
    assert result["functions"]["headers"] >= 1
    assert result["planned"]["bits_per_byte"] > 0
    assert {"plan.toml", "model/model.safetensors", "report.html", "report.png"} <= entries(Path("mine-2"))
    assert Path("mine/notes.txt").read_text() == "mine"
    assert entries(Path("mine")) == {"notes.txt"}


def test_a_quickstart_of_a_given_shape(tinyslm, python: Path) -> None:
    shape = ("--model.dim", "32", "--model.depth", "1", "--model.context", "32", "--train.device", "cpu")
    ended = tinyslm("quickstart", "--minutes", "0.02", "--text", python, "--json", *shape)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["result"]["functions"]["headers"] >= 1
    assert "plan.toml" not in entries(Path("quickstart"))
    assert "exclude each other" in tinyslm("quickstart", "--text", python, "--train.steps", "3").mistake()


def test_a_folder_that_is_there_is_never_written_to() -> None:
    for name in ("other", "mine", "mine-2"):
        Path(name).mkdir()
    assert [free_folder(Path(name)) for name in ("new", "mine", "other")] == [
        Path(n) for n in ("new", "mine-3", "other-2")
    ]


def test_the_standard_library_is_its_text() -> None:
    from tinyslm.data.reading import read_documents
    from tinyslm.data.standard_library import standard_library

    files = standard_library()
    assert len(files) > 400
    sizes = [Path(file).stat().st_size for file in files]
    assert sum(sizes) > 6_000_000
    assert min(sizes) > 0
    assert sum(1 for _ in read_documents(files)) > 400
    assert not any("/test/" in file or "/site-packages/" in file for file in files)


def test_ctrl_c_in_a_quickstart_says_how_to_go_on(python: Path) -> None:
    import signal
    import subprocess
    import time

    from the_command import COMMAND

    arguments = [COMMAND, "quickstart", "--minutes", "5", "--text", str(python), "--out", "stopped"]
    arguments += ["--model.dim", "32", "--model.depth", "1"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        log = Path("stopped/metrics.jsonl")
        while process.poll() is None and not (log.is_file() and '"step"' in log.read_text()):
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert said.splitlines()[-1].endswith("tinyslm train --resume stopped")


def test_headers_that_occur_in_training_are_not_unseen() -> None:
    from tinyslm.evaluation.functions import choose_functions
    from tinyslm.tokenizer.training import train_tokenizer

    tokenizer = train_tokenizer([], kind="byte")
    document = "def known(a):\n    return a\n\n\nclass A:\n    def unknown(self):\n        return 1\n"
    chosen = choose_functions([document], b"x = 1\n    def known(a):\n        pass\n", 5, tokenizer, 40)
    assert [function.header for function in chosen] == ["def unknown(self):\n"]
    assert chosen[0].body == "    return 1\n"
    assert choose_functions([document], b"", 5, tokenizer, 10) == []


def test_originals_are_cut_where_completions_of_a_short_context_end() -> None:
    from tinyslm.evaluation.functions import score_functions
    from tinyslm.inference.engine import Engine
    from tinyslm.model.config import ModelConfig
    from tinyslm.model.decoder import Decoder
    from tinyslm.tokenizer.training import train_tokenizer

    tokenizer = train_tokenizer([], kind="byte")
    shape = {"vocab_size": tokenizer.vocab_size, "dim": 32, "depth": 1, "heads": 2}
    whole = 'def f(a):\n    """What it is for,\n\n    in many lines.\n    """\n    return a\n'
    parsed = []
    for context in (64, 256):  # in 32 tokens the string does not end, in 96 it does
        engine = Engine(Decoder(ModelConfig(**shape, context=context)), tokenizer)
        score = score_functions(engine, [whole], b"")
        assert score is not None
        parsed.append(score.originals_parse)
        assert len(score.examples[0].encode()) <= len("def f(a):\n") + 3 * min(96, context // 2)
    assert parsed == [0, 1]
