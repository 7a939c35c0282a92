"""The bundle "container": its files. That its image can be built and run is tested by hand, as CI has no containers."""

import json
import re
import sys
from pathlib import Path

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.deploy.bundle import Bundle, Contents
from tinyslm.deploy.container import CONTAINER
from tinyslm.deploy.deploying import deploy_model
from tinyslm.deploy.space import SPACE


def silent(*_told: object) -> None:
    pass


def test_the_server_of_the_bundle_answers(model: Path, tmp_path: Path) -> None:
    made = deploy_model(model, "container", tmp_path / "image")
    assert "not built" in made.checked["image"]
    assert made.checked["answer"] == "8 tokens as small, to a client with a key"
    for name in ("Dockerfile", "requirements.txt", "README.md", "model/model.safetensors"):
        assert name in made.files


def test_the_dockerfile_copies_what_is_there(model: Path, tmp_path: Path) -> None:
    CONTAINER.write(Contents(model, "Small", "Small"), tmp_path, silent)
    text = (tmp_path / "Dockerfile").read_text()
    assert all((tmp_path / name).exists() for name in re.findall(r"^COPY (\w[\w.]*) ", text, re.MULTILINE))
    assert [*(tmp_path / "wheels").glob("tinyslm-*.whl")]
    _, build, final = text.split("\nFROM ")
    assert "g++" in build
    assert "g++" not in final
    for stage in (build, final):  # the pins are for the Python that runs here
        assert stage.startswith(f"docker.io/library/python:{sys.version_info.major}.{sys.version_info.minor}-slim")
    assert "USER 1000:1000" in final
    command = json.loads(final.partition("ENTRYPOINT ")[2])
    assert command[:4] == ["tinyslm", "serve", "--model", "Small=model"]
    assert "--public" not in command  # who builds the image has to say so
    assert "--tag small " in text  # names of images are in lower case


@pytest.mark.parametrize("bundle", [CONTAINER, SPACE])
def test_the_command_that_tries_an_image_runs_in_a_shell(bundle: Bundle) -> None:
    """Names of images are in lower case, and paths may have spaces."""
    usage = bundle.usage(Contents(Path("x"), "My_-Model", "My", sdk="docker"), Path("my image"))
    assert "docker build --tag my-model 'my image'" in usage
    assert usage.count("my-model") == 2


def test_a_pack_without_a_page(model: Path) -> None:
    with pytest.raises(TinyslmError, match="The pack logic has no page"):
        CONTAINER.accept(Contents(model, "small", "Small", pack="logic"))
