"""Whatever becomes of a file that this program reads again, there is no traceback: two lines, or it goes without."""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sentences import sentences
from tinyslm.cli.dialogue import Dialogue
from tinyslm.cli.show import show
from tinyslm.core.errors import TinyslmError
from tinyslm.data.shards import Shards, is_shards
from tinyslm.export.exporting import export_model
from tinyslm.export.onnx.genai import read_config
from tinyslm.export.pulling import check_folder
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.folder import read_card
from tinyslm.model.weights import weight_files
from tinyslm.planning.train import train
from tinyslm.training.config import RunConfig
from tinyslm.training.deadline import Decisions
from tinyslm.training.report import write_report
from tinyslm.training.run import Run
from tinyslm.training.run_folder import RunFolder

CONFIG = {
    "model": {"dim": 16, "heads": 2, "depth": 1, "context": 16},
    "tokenizer": {"kind": "byte"},
    "data": {"workers": 1},
    "train": {"steps": 2, "batch": 2, "checkpoint_minutes": 0, "validation_tokens": 64, "device": "cpu"},
}


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "brackets": lambda path: path.write_bytes(b"[" * 100_000),
    "noise": lambda path: path.write_bytes(random.Random(0).randbytes(1000)),
    "null": lambda path: path.write_bytes(b"null"),
    "empty": lambda path: path.write_bytes(b""),
    "folder": _folder,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two steps, with its shards and its model."""
    place = tmp_path_factory.mktemp("damaged")
    (place / "text.txt").write_text(sentences(60))
    train([place / "text.txt"], place / "run", settings=RunConfig.model_validate(CONFIG))
    return place / "run"


@contextmanager
def damaged(file: Path, damage: str) -> Iterator[None]:
    content = file.read_bytes()
    DAMAGES[damage](file)
    try:
        yield
    finally:
        shutil.rmtree(file) if file.is_dir() else file.unlink()
        file.write_bytes(content)


def refused(action: Callable[[], object]) -> bool:
    """Whether it ends in two lines; anything else that is raised fails the test."""
    try:
        action()
    except TinyslmError as error:
        lines = str(error).split("\n")
    else:
        return False
    assert len(list(filter(None, lines))) == len(lines) == 2
    return True


def resumed(run: Path) -> None:
    Run.resume(run, warn=lambda text: None)


def opened(shards: Path) -> None:
    assert is_shards(shards)
    Shards.open(shards).tokenizer.encode("a")


def opened_unverified(shards: Path) -> None:
    split = Shards.open(shards, verify=False).split("train")
    split.document(split.documents - 1)


OF_A_RUN = {"resume": resumed, "result": lambda run: RunFolder.open(run).result(), "show": show}
OF_A_MODEL = {
    "show the model": lambda run: show(run / "model"),
    "load the model": lambda run: check_folder(run / "model"),
}
OF_SHARDS = {
    "resume": resumed,
    "open the shards": lambda run: opened(run / "data"),
    "open them unverified": lambda run: opened_unverified(run / "data"),
}
ACTIONS: dict[str, dict[str, Callable[[Path], object]]] = {"model": OF_A_MODEL, "data": OF_SHARDS}
"""What reads the files of a folder in the run; other files are read by what reads the run itself."""

RESUME, RESULT, SHOWN, LOADED = {"resume"}, {"result"}, {"show the model"}, {"load the model"}
OPENED = {"open the shards", "open them unverified"}
FILES: dict[str, set[str]] = {
    "versions.json": set(),
    "data.json": RESUME,
    "config.json": RESUME,
    "result.json": RESULT,
    "metrics.jsonl": set(),
    "checkpoints/step-000002/state.json": set(),  # the one before is taken
    "checkpoints/step-000002/manifest.json": set(),
    "checkpoints/step-000002/model.safetensors": set(),
    "checkpoints/step-000002/state.safetensors": set(),
    "model/config.json": SHOWN | LOADED,
    "model/tokenizer.json": LOADED,
    "model/tokenizer_config.json": LOADED,
    "model/generation_config.json": LOADED,
    "model/tinyslm.json": SHOWN | LOADED,
    "model/model.safetensors": SHOWN | LOADED,
    "data/manifest.json": RESUME | OPENED,
    "data/train-00000.bin": RESUME | OPENED,
    "data/train-00000.documents.npy": RESUME | OPENED,
    "data/tokenizer/tokenizer.json": RESUME | {"open the shards"},
    "data/tokenizer/tokenizer_config.json": RESUME | {"open the shards"},
}
"""A file, and what cannot do without it. What a folder in its place is taken for: no file."""


@pytest.mark.parametrize("name", FILES)
def test_files_of_a_run_its_model_and_its_shards(run: Path, name: str, capsys) -> None:
    actions = ACTIONS.get(name.split("/", maxsplit=1)[0], OF_A_RUN)
    for damage in DAMAGES:
        with damaged(run / name, damage):
            for action, does in actions.items():
                found = refused(lambda does=does: does(run))
                if damage != "folder":
                    assert found == (action in FILES[name]), (damage, action)
    assert not any(refused(lambda does=does: does(run)) for does in actions.values())


def test_a_report_shows_what_there_is(run: Path) -> None:
    for damage in ("brackets", "folder"):
        with (
            damaged(run / "versions.json", damage),
            damaged(run / "data.json", damage),
            damaged(run / "result.json", damage),
            damaged(run / "config.json", damage),
        ):
            assert "Bits per byte" in write_report(run).read_text()


class _Engine:
    """Nothing is asked of it."""


def _index(folder: Path) -> object:
    return weight_files(folder)


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "deadline.json": ('{"steps": 1}', lambda folder: Decisions.read(folder / "deadline.json")),
    "tinyslm.json": ('{"xxh3": 3}', read_card),
    "model.safetensors.index.json": ('{"weight_map": {"a": 1}}', _index),
    "genai_config.json": ('{"model": {"decoder": 1}}', read_config),
    "chat.json": (
        '{"messages": [{"role": 1}]}',
        lambda folder: Dialogue(_Engine(), "m", "", SamplingSettings()).load(folder / "chat.json"),  # type: ignore[arg-type]
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    """Also when they hold an object, but another one."""
    content, read = READERS[name]
    (tmp_path / name).write_text(content)
    assert refused(lambda: read(tmp_path))
    for damage in DAMAGES.keys() - {"folder"}:
        with damaged(tmp_path / name, damage):
            assert refused(lambda: read(tmp_path)), damage


def test_a_report_of_exports_is_not_written_over(run: Path, tmp_path: Path) -> None:
    for damage in DAMAGES:
        (tmp_path / "exports.json").write_text('{"exports": []}')
        with damaged(tmp_path / "exports.json", damage):
            assert refused(lambda: export_model(run, "hf", tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["exports.json"]
