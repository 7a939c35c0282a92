"""The bundle "space": its front matter, and the files of each sdk."""

from pathlib import Path

import pytest
import yaml

from tinyslm.core.errors import TinyslmError
from tinyslm.deploy.bundle import Contents
from tinyslm.deploy.space.front_matter import check_front_matter, front_matter

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
