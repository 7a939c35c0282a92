"""tinyslm as a wheel, made without a build program."""

from pathlib import Path
from zipfile import ZipFile

from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

from tinyslm.deploy.requirements import pinned
from tinyslm.deploy.wheel import build_wheel

ROOT = Path(__file__).parents[2]


def test_it_holds_what_hatchling_puts_into_one(tmp_path: Path) -> None:
    made = build_wheel(tmp_path)
    theirs = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path / "hatchling"), versions=["standard"]))
    assert made.name == Path(theirs).name
    with ZipFile(made) as ours, ZipFile(theirs) as other:
        assert set(ours.namelist()) == set(other.namelist())
        record = next(name for name in ours.namelist() if name.endswith("/RECORD"))
        differing = set(ours.read(record).splitlines()) ^ set(other.read(record).splitlines())
        assert all(b".dist-info/METADATA," in line for line in differing)  # that of a source tree may have changed


def test_equal_packages_make_equal_wheels(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    assert build_wheel(tmp_path).read_bytes() == build_wheel(tmp_path / "again").read_bytes()


def test_requirements_are_pinned_to_what_is_installed() -> None:
    lines = pinned("tinyslm", "serve")
    names = [Requirement(line).name for line in lines]
    assert {"torch", "tokenizers", "fastapi", "uvicorn", "uvloop"} <= set(names)
    assert not {"tinyslm", "pytest", "ruff", "onnx"} & set(names)
    assert not [line for line in lines if "+" in line or "==" not in line]
    assert "fastapi" not in [Requirement(line).name for line in pinned("tinyslm")]


def test_it_holds_more_than_python(tmp_path: Path) -> None:
    with ZipFile(build_wheel(tmp_path)) as wheel:
        names = set(wheel.namelist())
    for name in (
        "serving/page/static/index.html",
        "packs/excel/page/index.html",
        "inference/native/step.cpp",
        "model/kernels/kernels.cpp",
        "hardware/cpp/lanes.h",
        "recipes/tiny.toml",
        "lessons/exercises/grader.py",
        "py.typed",
    ):
        assert f"tinyslm/{name}" in names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]
