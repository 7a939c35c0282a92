"""What a page is made from: programs from npm, and models that a browser can run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.deploy.bundle import Contents
from tinyslm.deploy.page import PAGE
from tinyslm.deploy.page.checking import served
from tinyslm.deploy.page.packages import JINJA, WLLAMA, check_given, obtain, registry
from tinyslm.model.config import ModelConfig


@pytest.fixture
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tinyslm" / "npm"


@pytest.fixture(scope="module")
def archive(npm_packages: None) -> Path:
    """The package of the chat templates, as fetched."""
    from tinyslm.hardware.compiling import user_cache

    return user_cache() / "npm" / JINJA.archive


@pytest.fixture
def other_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A registry on this machine, set as npm would be told; the path of the package's file in it."""
    file = tmp_path / "registry" / JINJA.name / "-" / "jinja-0.5.11.tgz"
    file.parent.mkdir(parents=True)
    with served(tmp_path / "registry") as url:
        monkeypatch.setenv("npm_config_registry", url)
        yield file


def problem(act) -> str:
    with pytest.raises(TinyslmError) as raised:
        act()
    return f"{raised.value.problem} {raised.value.remedy}"


def test_a_package_comes_from_the_registry_that_npm_is_set_to(archive, other_registry, nothing_cached) -> None:
    other_registry.write_bytes(archive.read_bytes())
    files = obtain(JINJA)
    assert files.keys() == {"jinja.js", "jinja.LICENSE"}
    other_registry.unlink()
    assert obtain(JINJA) == files  # from the cache
    (nothing_cached / JINJA.archive).write_bytes(b"damaged")
    assert "cannot be fetched from 127.0.0.1" in problem(lambda: obtain(JINJA))


def test_a_package_with_another_checksum_is_not_used(archive, other_registry, nothing_cached) -> None:
    other_registry.write_bytes(archive.read_bytes() + b"\0")
    assert "is not @huggingface/jinja 0.5.11: its SHA-512 differs." in problem(lambda: obtain(JINJA))
    assert not any(nothing_cached.iterdir())


def test_a_machine_without_a_network_is_given_the_package(archive, nothing_cached, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/npm/")
    assert registry() == "http://127.0.0.1:9/npm/"
    told = problem(lambda: obtain(JINJA))
    assert "cannot be fetched from 127.0.0.1:9: [Errno 111]" in told
    assert "--runtime: npm pack @huggingface/jinja@0.5.11" in told
    given = tmp_path / "any name.tgz"
    given.write_bytes(archive.read_bytes())
    assert obtain(JINJA, [given]).keys() == set(JINJA.files.values())
    other = tmp_path / "other.tgz"
    other.write_bytes(b"other")
    assert "is none of the packages" in problem(lambda: check_given([WLLAMA, JINJA], [given, other]))
    assert "cannot be read" in problem(lambda: obtain(JINJA, [tmp_path / "none"]))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "file:///etc")
    assert "is no web address" in problem(registry)


def test_models_that_a_browser_cannot_run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def accepted(**changed: object) -> str:
        config = ModelConfig(**{"vocab_size": 512, "dim": 64, "heads": 2, "depth": 1, **changed})
        monkeypatch.setattr("tinyslm.deploy.page.writing.read_model_config", lambda _: config)
        return problem(lambda: PAGE.accept(Contents(model, "small", "Small")))

    large = accepted(family="llama", dim=2048, heads=32, depth=40, vocab_size=50_000)
    assert "is too large for a browser: even in 4 bits it takes 1." in large
    assert "up to 1.6 B parameters" in large
    assert "does not have the family gpt_neo. It has these: gemma2" in accepted(family="gpt_neo", window=0)
    with_pack = problem(lambda: PAGE.accept(Contents(model, "small", "Small", "prices")))
    assert "no page that runs in a browser alone. Those that have one: excel. Leave out --pack." in with_pack
    of_texts = problem(lambda: PAGE.accept(Contents(model, "small", "Small", "excel")))
    assert "was never taught to answer. Teach it the pack: tinyslm packs train excel" in of_texts
