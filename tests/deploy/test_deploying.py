"""The front door of bundles: input, atomicity, the model card, the check."""

import json
from pathlib import Path

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.deploy.bundle import BUNDLES, Bundle, Contents
from tinyslm.deploy.deploying import deploy_model
from tinyslm.deploy.settings import BundleSettings


def _write(contents: Contents, folder: Path, progress) -> None:
    (folder / "files").mkdir()
    (folder / "files" / "name.txt").write_text(contents.name)


def _check(contents: Contents, folder: Path, progress) -> dict[str, str]:
    if contents.title == "broken":
        raise TinyslmError("It does not start.", "Read its log.")
    return {"name": (folder / "files" / "name.txt").read_text()}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle of one file."""
    bundle = Bundle(
        name="plain",
        about="one file",
        write=_write,
        check=_check,
        usage=lambda contents, folder: f"cat {folder}/files/name.txt",
        metadata=lambda contents, card: {"title": contents.title, **card},
    )
    monkeypatch.setitem(BUNDLES._items, "plain", bundle)
    return bundle


def test_a_bundle_is_written_with_its_card_and_checked(plain: Bundle, model: Path, tmp_path: Path) -> None:
    made = deploy_model(model, "plain", tmp_path / "new" / "site", settings=BundleSettings(title="A model"))
    assert made.checked == {"name": "small"}
    assert made.files.keys() == {"README.md", "bundle.json", "files/name.txt"}
    assert made.bytes == sum(path.stat().st_size for path in made.folder.rglob("*") if path.is_file())
    readme = (made.folder / "README.md").read_text()
    assert readme.startswith("---\ntitle: A model\n")
    assert "# A model" in readme
    assert "| bits per byte | 2.5000 |" in readme
    record = json.loads((made.folder / "bundle.json").read_text())
    assert (record["bundle"], record["model"], record["checked"]) == ("plain", "small", {"name": "small"})


def test_what_fails_its_check_is_not_written(plain: Bundle, model: Path, tmp_path: Path) -> None:
    broken = BundleSettings(title="broken")
    with pytest.raises(TinyslmError, match="It does not start"):
        deploy_model(model, "plain", tmp_path / "new" / "site", settings=broken)
    assert not (tmp_path / "new").exists()
    made = deploy_model(model, "plain", tmp_path / "new" / "site", settings=broken, check=False)
    assert made.checked == {}


def test_wrong_input(plain: Bundle, model: Path, tmp_path: Path) -> None:
    def problem(given: Path, to: str = "plain", out: Path = tmp_path / "site", **settings: object) -> str:
        with pytest.raises(TinyslmError) as raised:
            deploy_model(given, to, out, settings=BundleSettings(**settings))
        assert not (tmp_path / "site").exists()
        return f"{raised.value.problem} {raised.value.remedy}"

    assert 'Unknown bundle "plane". Did you mean "plain"?' in problem(model, "plane")
    assert "exists already" in problem(model, out=model)
    assert "does not exist" in problem(tmp_path / "none")
    assert "--sdk docker is not for --to plain. Leave it out, or use --to space." in problem(model, sdk="docker")
    assert 'Unknown pack "exel". Did you mean "excel"?' in problem(model, pack="exel")
    assert 'no licence "apache". Did you mean' in problem(model, licence="apache")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert "has not finished: it has no model yet" in problem(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "mixtral"}')
    (tmp_path / "other" / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    assert 'The architecture "mixtral" (model_type in config.json) is not supported.' in problem(tmp_path / "other")
