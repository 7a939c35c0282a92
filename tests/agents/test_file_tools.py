"""File tools: what is below the folder can be read, and nothing else, whatever is tried."""

import os
import threading
from pathlib import Path

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.tools import folder as folder_module
from tinyslm.inference.tools.files import file_tools
from tinyslm.inference.tools.folder import SafeFolder
from tinyslm.inference.tools.tool import ToolError


@pytest.fixture
def place(tmp_path):
    """A folder with notes, beside a secret that tools must not reach."""
    (tmp_path / "secret.txt").write_text("SECRET")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.txt").write_text("SECRET")
    root = tmp_path / "root"
    (root / "sub/deep").mkdir(parents=True)
    (root / "a.txt").write_text("one\ntwo Alpha\nthree\n")
    (root / "sub/b.md").write_text("alpha again\n")
    (root / "sub/deep/c.txt").write_text("gamma\n")
    (root / ".hidden").write_text("alpha hidden\n")
    return root


@pytest.fixture
def tools(place):
    return {tool.name: tool for tool in file_tools(place, write=True)}


def test_there_is_no_writing_unless_wanted(place):
    assert [tool.name for tool in file_tools(place)] == ["list_files", "read_file", "search_files"]


def test_listing_and_reading(tools):
    assert tools["list_files"]().splitlines() == [".hidden  13", "a.txt  20", "sub/"]
    assert tools["list_files"]("sub").splitlines() == ["sub/b.md  12", "sub/deep/"]
    assert tools["read_file"]("a.txt") == "one\ntwo Alpha\nthree"
    assert tools["read_file"]("./sub//deep/c.txt") == "gamma"
    assert tools["read_file"]("a.txt", first_line=3) == "three"


def test_long_files_come_in_parts(place, tools):
    (place / "long.txt").write_text("\n".join(map(str, range(1, 501))))
    first = tools["read_file"]("long.txt").splitlines()
    assert first[:2] == ["1", "2"]
    assert first[-1] == "... 300 more lines, from line 201"
    assert tools["read_file"]("long.txt", first_line=401).splitlines()[-1] == "500"


def test_searching(tools):
    assert tools["search_files"]("ALPHA").splitlines() == ["a.txt:2: two Alpha", "sub/b.md:1: alpha again"]
    assert tools["search_files"]("alpha", folder="sub") == "sub/b.md:1: alpha again"
    assert tools["search_files"]("nowhere") == "Nothing found."


def test_writing(place, tools):
    assert tools["write_file"]("new/er/x.txt", "hällo") == "Wrote 6 bytes to new/er/x.txt."
    assert (place / "new/er/x.txt").read_text() == "hällo"
    tools["write_file"]("a.txt", "replaced")
    assert (place / "a.txt").read_text() == "replaced"
    assert not [path for path in place.rglob("*") if path.name.endswith(".tmp")]


ESCAPES = [
    "../secret.txt",
    "sub/../../secret.txt",
    "sub/../a.txt",
    "..",
    "/etc/passwd",
    "//etc/passwd",
    "~/secret.txt",
    "~root/x",
    "..\\secret.txt",
    "sub\\..\\..\\secret.txt",
    "a.txt\0.md",
    "C:\\secret.txt",
    "x" * 2000,
    "x" * 300,
    "sub/" + "x" * 300,
    "a\ud800.txt",
    "d/" * 100 + "x",
]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("name", ["read_file", "list_files", "write_file", "search_files"])
def test_paths_that_lead_elsewhere(tools, tmp_path, name, path):
    more = {"write_file": {"text": "x"}, "search_files": {"text": "SECRET"}}.get(name, {})
    key = "folder" if name in ("list_files", "search_files") else "path"
    with pytest.raises(ToolError):
        tools[name](**{key: path}, **more)
    assert (tmp_path / "secret.txt").read_text() == "SECRET"


@pytest.mark.parametrize("path", ["", ".", "./", "a.txt/b", "missing.txt", "sub"])
def test_paths_that_are_no_file(tools, path):
    with pytest.raises(ToolError):
        tools["read_file"](path)


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("link.txt", "../secret.txt", "link.txt"),
        ("inner", "../outside", "inner/secret.txt"),
        ("up", "..", "up/secret.txt"),
        ("sub/deep/here", "../../..", "sub/deep/here/secret.txt"),
        ("good.txt", "a.txt", "good.txt"),
        ("loop", "loop", "loop"),
    ],
)
def test_links_are_not_followed(place, tools, tmp_path, link, target, path):
    (place / link).symlink_to(target)
    with pytest.raises(ToolError, match="link"):
        tools["read_file"](path)
    with pytest.raises(ToolError):
        tools["write_file"](path, "x")
    assert "SECRET" not in tools["search_files"]("SECRET")
    assert "link" in tools["list_files"](link.rpartition("/")[0])
    assert (tmp_path / "secret.txt").read_text() == "SECRET"
    assert (tmp_path / "outside/secret.txt").read_text() == "SECRET"


def test_a_folder_that_is_swapped_for_a_link_on_the_way(place, tools, monkeypatch):
    """The moment between two parts of a path, at which a check of the whole path would be too late."""
    real = os.open
    swapped = []

    def swapping(name, flags, mode=0o777, *, dir_fd=None):
        opened = real(name, flags, mode, dir_fd=dir_fd)
        if name == "sub" and not swapped:
            swapped.append(True)
            (place / "sub/deep").rename(place / "sub/old")
            (place / "sub/deep").symlink_to("../../outside")
        return opened

    monkeypatch.setattr(folder_module.os, "open", swapping)
    with pytest.raises(ToolError, match="link"):
        tools["read_file"]("sub/deep/secret.txt")
    assert swapped


def test_folders_and_links_that_swap_all_the_time(place, tmp_path):
    """Whoever wins the race, nothing from outside is read."""
    (place / "x").mkdir()
    (place / "x/secret.txt").write_text("mine")
    (place / "y").symlink_to("../outside")
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            for one, other in (("x", "t"), ("y", "x"), ("t", "y")):
                (place / one).rename(place / other)

    thread = threading.Thread(target=swap)
    thread.start()
    inside = SafeFolder(place)
    read = []
    try:
        for _ in range(2000):
            try:
                read.append(inside.read("x/secret.txt", 100)[0])
            except ToolError:
                read.append(b"refused")
    finally:
        stop.set()
        thread.join()
    assert set(read) <= {b"mine", b"refused"}


def test_devices_pipes_and_folders_are_no_files(place, tools):
    os.mkfifo(place / "pipe")
    for path in ("pipe", "sub"):
        with pytest.raises(ToolError):
            tools["read_file"](path)
        with pytest.raises(ToolError):
            tools["write_file"](path, "x")
    assert "pipe  (other)" in tools["list_files"]()


def test_what_is_no_text(place, tools):
    (place / "image.png").write_bytes(b"\x89PNG\0\0alpha")
    (place / "latin.txt").write_bytes("Käse".encode("latin-1"))
    (place / "bom.txt").write_bytes(b"\xef\xbb\xbfhello")
    (place / "wide.txt").write_bytes("\ufeffhello".encode("utf-16-le"))
    (place / "empty.txt").touch()
    for path in ("image.png", "latin.txt"):
        with pytest.raises(ToolError, match=r"not (a|text)"):
            tools["read_file"](path)
    assert tools["read_file"]("bom.txt") == tools["read_file"]("wide.txt") == "hello"
    assert tools["read_file"]("empty.txt") == "The file is empty."
    assert "image" not in tools["search_files"]("alpha")


def test_huge_files_are_not_read(place, tools):
    with (place / "huge.txt").open("wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no space
    with pytest.raises(ToolError, match="too large"):
        tools["read_file"]("huge.txt")
    with pytest.raises(ToolError, match="at most"):
        tools["write_file"]("b.txt", "x" * ((1 << 20) + 1))
    assert not (place / "b.txt").exists()


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(TinyslmError, match="no folder"):
            file_tools(wrong)


def test_descriptors_are_closed(place, tools):
    def count():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    for _ in range(20):
        tools["list_files"]("sub")
        tools["read_file"]("sub/deep/c.txt")
        tools["write_file"]("sub/deep/n.txt", "x")
        for wrong in ("sub/missing/x", "a.txt/b", "../x"):
            with pytest.raises(ToolError):
                tools["read_file"](wrong)
    assert count() == before
