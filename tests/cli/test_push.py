"""`tinyslm deploy FOLDER --push`, against a hub on this machine."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from hub_server import COMMIT, WRITER, hub
from the_command import entries

SPACE = {"title": "Small", "emoji": "💬", "colorFrom": "blue", "colorTo": "gray", "sdk": "static"}


@pytest.fixture
def push(program, tmp_path: Path):
    """Runs `tinyslm deploy` with a hub at an address, a token, and no other network."""

    def run(*arguments: object, at: str = "http://127.0.0.1:9", token: str = WRITER):
        environment = {
            **{name: value for name, value in os.environ.items() if not name.upper().startswith(("HF_", "HTTP"))},
            "HF_ENDPOINT": at,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            **({"HF_TOKEN": token} if token else {}),
        }
        return program("deploy", *arguments, env=environment)

    return run


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """A folder with the front matter of a Space."""
    folder = tmp_path / "my-space"
    (folder / "files").mkdir(parents=True)
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({**SPACE, 'app_file': 'index.html'})}---\n# Small\n")
    (folder / "index.html").write_text("<p>Hello")
    (folder / "files" / "weights.bin").write_bytes(bytes(1000))
    (folder / ".env").write_text("SECRET=1")
    (folder / "link").symlink_to("/etc/hostname")
    return folder


UPLOADED = {"README.md", "index.html", "files/weights.bin"}


def test_a_space_is_uploaded(push, space: Path, tmp_path: Path) -> None:
    with hub(tmp_path / "hub") as (address, asked):
        ended = push(space, "--push", "owner/small", at=address)
    assert ended.code == 0, ended
    assert f"Space (static): {address}/spaces/owner/small, 3 files, 1.1 kB; commit {COMMIT[:12]}." in ended.out
    assert "api/spaces/owner/small/commit/main" in asked
    place = tmp_path / "hub" / "owner" / "small"
    assert entries(place) == {*UPLOADED, "files"}
    assert (place / "index.html").read_text() == "<p>Hello"


def test_a_model_gets_its_card(push, finished: Path, tmp_path: Path) -> None:
    with hub(tmp_path / "hub") as (address, _):
        ended = push(finished, "--push", "owner/small", "--json", at=address)
    told = json.loads(ended.out)
    assert (told["kind"], told["commit"]) == ("model", COMMIT)
    place = tmp_path / "hub" / "owner" / "small"
    assert entries(place) == told["files"].keys() == {*entries(finished / "model"), "README.md"}
    assert "pipeline_tag: text-generation" in (place / "README.md").read_text()


def test_a_dry_run_needs_no_network(push, space: Path) -> None:
    ended = push(space, "--push", "owner/small", "--dry-run", token="")
    assert ended.code == 0, ended
    assert "files/weights.bin   1 kB" in ended.out
    assert "To the Space (static) https://huggingface.co/spaces/owner/small would go 3 files" in ended.out
    assert json.loads(push(space, "--push", "a/b", "--dry-run", "--json").out)["files"].keys() == UPLOADED


def test_wrong_input(push, space: Path, finished: Path, tmp_path: Path) -> None:
    to = ("--push", "owner/small")
    assert "This machine has no token" in push(space, *to, token="").mistake()
    assert "cannot be reached" in push(space, *to).mistake()
    with hub(tmp_path / "hub") as (address, _):
        assert "refused owner/small: You may not write here. Use a token that may write" in (
            push(space, *to, at=address, token="hf_reader").mistake()
        )
    for name in ("small", "a/b/c", "owner/../x", "owner/-x", "owner/a--b", ""):
        assert push(space, f"--push={name}", "--dry-run").code == 2
    assert "neither a Space nor a model folder" in push(tmp_path, *to).mistake()
    assert "neither a Space nor a model folder" in push(tmp_path / "none", *to).mistake()
    assert "--push uploads a folder as it is" in push(finished, *to, "--to", "space").mistake()
    (space / "index.html").unlink()
    assert "names index.html, which does not exist" in push(space, *to).mistake()
    shutil.copyfile(finished / "model" / "config.json", space / "bundle.json")
    (space / "README.md").write_text("# Small")
    assert "is a bundle, but no Space" in push(space, *to).mistake()
