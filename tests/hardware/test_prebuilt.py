"""Libraries that were compiled ahead: the fastest that the processor can run is chosen."""

import ctypes
from itertools import pairwise
from pathlib import Path

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.hardware import compiling, prebuilt
from tinyslm.hardware.compiling import NotAvailable, build, build_ahead, compiler
from tinyslm.hardware.machine import read_flags
from tinyslm.hardware.prebuilt import KINDS, find_prebuilt, kinds_here

SOURCE = 'extern "C" int answer() { return NUMBER; }\n'


def has_compiler() -> bool:
    try:
        compiler()
    except NotAvailable:
        return False
    return True


def test_the_fastest_that_the_processor_can_run(tmp_path: Path) -> None:
    kinds = kinds_here()
    for kind in kinds:
        (tmp_path / kind.name).mkdir()
        (tmp_path / kind.name / "step-1.so").touch()
    for kind in kinds:
        found = find_prebuilt("step-1.so", kind.needs | {"something_else"}, tmp_path)
        assert found == tmp_path / kind.name / "step-1.so"
    assert find_prebuilt("step-1.so", frozenset(), tmp_path) is None
    assert find_prebuilt("step-2.so", kinds[0].needs, tmp_path) is None
    assert find_prebuilt("step-1.so", kinds[0].needs, tmp_path / "missing") is None


def test_faster_kinds_need_more() -> None:
    for faster, slower in pairwise(KINDS):
        assert faster.machines != slower.machines or faster.needs > slower.needs


@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
def test_libraries_compiled_ahead_are_found_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not any(kind.needs <= read_flags() for kind in kinds_here()):
        pytest.skip("no library is compiled ahead for this processor")
    source = tmp_path / "source" / "answer.cpp"
    source.parent.mkdir()
    source.write_text(SOURCE)
    ahead = tmp_path / "ahead"
    made = build_ahead(source, ["-DNUMBER=5"], ahead)
    assert [path.parent.name for path in made] == [kind.name for kind in kinds_here()]
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(compiling, "find_prebuilt", lambda name, flags: prebuilt.find_prebuilt(name, flags, ahead))
    found = build(source, (*compiling.NATIVE, "-DNUMBER=5"))
    assert found in made
    assert ctypes.CDLL(str(found)).answer() == 5
    with pytest.raises(NotAvailable):  # of other options there is none
        build(source, (*compiling.NATIVE, "-DNUMBER=6"))


def test_portable_goes_with_compile() -> None:
    from tinyslm.cli.doctor import doctor

    with pytest.raises(TinyslmError, match="--portable"):
        doctor(portable=True)
