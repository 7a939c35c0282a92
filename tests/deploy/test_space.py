"""The bundle "space": its front matter, and the files of each sdk."""

from pathlib import Path

import pytest
import yaml

from tinyslm.core.errors import TinyslmError
from tinyslm.deploy.bundle import Contents
from tinyslm.deploy.deploying import deploy_model
from tinyslm.deploy.settings import BundleSettings
from tinyslm.deploy.space import SPACE
from tinyslm.deploy.space.front_matter import check_front_matter, front_matter
from tinyslm.export.facts import front_matter as front_matter_of

CARD = {"license": "apache-2.0", "base_model": "owner/base", "library_name": "transformers", "tags": ["tinyslm"]}
STATIC = {
    "app_file": "index.html",
    "custom_headers": {"cross-origin-embedder-policy": "require-corp", "cross-origin-opener-policy": "same-origin"},
}


def checked(folder: Path, **changes: object) -> str:
    """What the check says of a static Space's front matter with these changes; `None` leaves a field out."""
    contents = Contents(folder, "small", "A model with a title that is so long that nothing else fits in", sdk="static")
    fields = {**front_matter(contents, CARD, STATIC), **changes}
    (folder / "index.html").touch()
    present = {name: value for name, value in fields.items() if value is not None}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(present)}---\n# Small\n")
    return check_front_matter(folder)


def test_the_front_matter_is_what_the_hub_accepts(tmp_path: Path) -> None:
    assert "fields" in checked(tmp_path)
    fields = front_matter(Contents(tmp_path, "small", "Small" * 20, sdk="static"), CARD, STATIC)
    assert len(fields["short_description"]) == 60
    assert (fields["license"], fields["models"]) == ("apache-2.0", ["owner/base"])
    assert "library_name" not in fields  # that is for models


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colorFrom": "orange"}, "colorFrom: 'orange' is not one of"),
        ({"emoji": "x"}, "emoji: "),
        ({"sdk": "streamlit"}, "sdk: "),
        ({"sdk": "gradio"}, "'sdk_version' is a required property"),
        ({"sdk": "docker", "app_file": None}, "'app_port' is a required property"),
        ({"app_port": 7860}, "does not allow 7860"),
        ({"title": None}, "'title' is a required property"),
        ({"app_file": "main.html"}, "names main.html, which does not exist"),
        ({"app_file": "../x"}, "app_file: "),
        ({"short_description": "x" * 61}, "short_description: "),
        ({"custom_headers": {"Cross-Origin-Opener-Policy": "same-origin"}}, "custom_headers: "),
        ({"library_name": "transformers"}, "'library_name' was unexpected"),
    ],
)
def test_wrong_front_matter(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match=message):
        checked(tmp_path, **changes)


def test_a_readme_without_front_matter_is_no_space(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Small\n---\nsdk: static\n---\n")
    with pytest.raises(TinyslmError, match="has no front matter"):
        check_front_matter(tmp_path)


@pytest.mark.parametrize("sdk", SPACE.sdks)
def test_the_front_matter_of_each_sdk(sdk: str, tmp_path: Path) -> None:
    if sdk == "gradio":
        pytest.importorskip("gradio")
    fields = SPACE.metadata(Contents(tmp_path, "small", "Small", sdk=sdk), CARD)
    for name in {"app_file"} & fields.keys():
        (tmp_path / fields[name]).touch()
    (tmp_path / "README.md").write_text(f"---\n{yaml.safe_dump(fields)}---\n# Small\n")
    assert "fields" in check_front_matter(tmp_path)


def test_a_docker_space_starts_from_what_it_carries(model: Path, tmp_path: Path) -> None:
    made = deploy_model(model, "space", tmp_path / "space", settings=BundleSettings(sdk="docker"))
    assert made.checked["API"].startswith("small answers")
    assert {"Dockerfile", "README.md", "model/model.safetensors", "requirements.txt"} <= made.files.keys()
    dockerfile = (made.folder / "Dockerfile").read_text()
    assert f"pip install --user --no-cache-dir --no-deps ./{next(made.folder.glob('*.whl')).name}" in dockerfile
    assert 'CMD ["tinyslm", "serve", "--model", "small=model", "--public", "--host", "0.0.0.0", "--port", "7860"]' in (
        dockerfile
    )
    assert "torch==" in (made.folder / "requirements.txt").read_text()


def test_a_gradio_space_has_its_program_and_requirements(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    made = deploy_model(model, "space", tmp_path / "space", settings=BundleSettings(sdk="gradio"), check=False)
    program = (made.folder / "app.py").read_text()
    compile(program, "app.py", "exec")
    assert """launch(HERE / "model", 'small', 'small')""" in program
    required = (made.folder / "requirements.txt").read_text().splitlines()
    assert f"gradio=={front_matter_of(made.folder)['sdk_version']}" in required
    assert {"app.py", "packages.txt", "model/config.json"} <= made.files.keys()
    with pytest.raises(TinyslmError, match="no page of the pack excel"):
        deploy_model(model, "space", tmp_path / "other", settings=BundleSettings(sdk="gradio", pack="excel"))
