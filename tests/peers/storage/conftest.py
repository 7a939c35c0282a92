"""A server, and an environment in which tinyslm uses it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import KEYS, make_bucket, serve


@pytest.fixture(scope="module")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "log"


@pytest.fixture(scope="module")
def address(server_log: Path) -> Iterator[str]:
    with serve(server_log) as address:
        make_bucket(address)
        yield address


@pytest.fixture(scope="module", autouse=True)
def environment(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": address}.items():
            patch.setenv(name, value)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _in_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
