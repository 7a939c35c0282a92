"""Keys and models that are replaced while a server runs: no request is refused, and answers under way end as begun."""

import asyncio
import os
import pty
import shutil
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
from serve_program import program
from tiny_server import make_model, wait_until

from tinyslm.inference.opening import open_engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.serving import models as served_models
from tinyslm.serving.api_keys import make_key
from tinyslm.serving.models import Models, UnknownModel

MB = 1_000_000
SHAPE = {"depth": 1, "context": 16_000}
GREEDY = {"prompt": "abc", "max_tokens": 12, "temperature": 0}


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models; the second one has another shape."""
    root = tmp_path_factory.mktemp("versions")
    return [make_model(root / "one", 1, **SHAPE), make_model(root / "two", 2, dim=64, **SHAPE)]


@pytest.fixture(scope="module")
def texts(versions: list[Path]) -> list[str]:
    """What each continues the prompt with."""
    return [said_by(open_engine(folder)) for folder in versions]


def said_by(engine) -> str:
    settings = SamplingSettings(max_tokens=GREEDY["max_tokens"], temperature=0.0)
    return engine.complete(GREEDY["prompt"], settings)[0].text


def test_sighup_takes_over_keys_and_models_while_answers_stream(forked, versions, texts, tmp_path) -> None:
    link, keys, listed = tmp_path / "served", tmp_path / "keys", tmp_path / "models.toml"
    link.symlink_to(versions[0])
    old_key, _ = make_key("ann", keys)
    listed.write_text("")
    with (
        program(link, "--keys", keys, "--models", listed, command=forked) as (url, process),
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {old_key}"}, timeout=60) as client,
    ):

        def text(model: str = "served") -> str:
            answer = client.post("/v1/completions", json=GREEDY | {"model": model})
            assert answer.status_code == 200, answer.text
            return answer.json()["choices"][0]["text"]

        assert text() == texts[0]
        body = {"model": "served", "prompt": "x", "logit_bias": {"97": 100}, "max_tokens": 4000, "stream": True}
        with client.stream("POST", "/v1/completions", json=body) as stream:
            events = stream.iter_lines()
            first = next(events)
            new_key, _ = make_key("ann", keys)
            keys.write_text(keys.read_text().splitlines()[1])
            (tmp_path / "new").symlink_to(versions[1])
            (tmp_path / "new").replace(link)
            listed.write_text(f'[models]\nmore = "{versions[0]}"\n')
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: client.get("/v1/models").status_code == 401, 60)
            client.headers["Authorization"] = f"Bearer {new_key}"
            wait_until(lambda: text() == texts[1], 60)
            assert text("more") == texts[0]
            rest = [line for line in events if line]
        assert rest[-1] == "data: [DONE]"
        assert "error" not in "".join(rest)
        assert "".join((first, *rest)).count('"finish_reason":"length"') == 1
        listed.write_text("damaged")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "stay as they were" in process.stderr.readline(), 60)
        assert text("more") == texts[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_closed_terminal_ends_the_server(forked, versions) -> None:
    """Which is the other meaning of SIGHUP."""
    master, terminal = pty.openpty()
    command, pipe = [forked, "serve", str(versions[0]), "--port", "0"], subprocess.PIPE
    process = subprocess.Popen(command, stdin=terminal, stdout=pipe, stderr=pipe)
    os.close(terminal)
    with process:
        assert b"Serving" in process.stdout.readline()
        os.close(master)
        process.send_signal(signal.SIGHUP)
        assert process.wait(30) == 0


def use(folder: Path, work, **options) -> None:
    """Run `work(models)` with a copy of the first version."""

    async def run() -> None:
        models = Models({"a": folder}, open_engine, **options)
        await models.load_first()
        await work(models)
        await models.close()

    asyncio.run(run())


@pytest.fixture
def folder(versions: list[Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(versions[0], tmp_path / "a"))


def replace(folder: Path, new: Path) -> None:
    folder.rename(folder.with_name("old"))
    shutil.copytree(new, folder)


def test_what_has_not_changed_stays_loaded(folder, versions) -> None:
    async def work(models: Models) -> None:
        engine = models.loaded()["a"]
        assert await models.reload({"a": folder}) == {}
        assert models.loaded()["a"] is engine
        replace(folder, versions[1])
        assert await models.reload({"b": versions[0], "a": folder}) == {"b": "added", "a": "loaded anew"}
        assert models.names == ("b", "a")
        assert models.loaded()["a"] is not engine
        assert await models.reload({"a": folder}) == {"b": "removed"}
        assert list(models.loaded()) == ["a"]
        with pytest.raises(UnknownModel):
            async with models.use("b"):
                pass

    use(folder, work)


def test_an_engine_in_use_is_closed_when_it_is_idle(folder, versions, texts) -> None:
    async def work(models: Models) -> None:
        replace(folder, versions[1])
        async with models.use("a") as old:
            await models.reload({"a": folder})
            await models.unload_idle()
            async with models.use("a") as new:
                assert (said_by(old.engine), said_by(new.engine)) == tuple(texts)
        await models.unload_idle()
        assert old.engine._closed
        assert not new.engine._closed

    use(folder, work)


def test_a_damaged_model_does_not_take_over(folder, texts, caplog) -> None:
    async def work(models: Models) -> None:
        folder.rename(folder.with_name("old"))
        assert await models.reload({"a": folder}) == {"a": "not loaded anew"}
        assert f'The model "a" could not be loaded: {folder} does not exist.' in caplog.text
        async with models.use("a") as served:
            assert said_by(served.engine) == texts[0]

    use(folder, work)


def test_without_memory_for_both_requests_wait(folder, versions, texts, monkeypatch) -> None:
    async def work(models: Models) -> None:
        replace(folder, versions[1])
        monkeypatch.setattr(served_models, "_memory", lambda: 10 * MB * len(open_engines(models)))
        models._memory = 15 * MB
        models._slots["a"].bytes = 10 * MB

        async def ask() -> str:
            async with models.use("a") as served:
                return await asyncio.to_thread(said_by, served.engine)

        async with models.use("a") as old:
            reloading = asyncio.create_task(models.reload({"a": folder}))
            while models.loaded():
                await asyncio.sleep(0.01)
            asking = asyncio.create_task(ask())
            assert said_by(old.engine) == texts[0]
            assert not asking.done()
        assert await asking == texts[1]
        assert await reloading == {"a": "loaded anew"}

    use(folder, work)


def open_engines(models: Models) -> list:
    return [slot for slot in (*models._slots.values(), *models._replaced) if slot.model is not None]
