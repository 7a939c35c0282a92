"""Several models in one server: loaded on demand, unloaded when idle or when memory runs out, never while in use."""

import asyncio
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest
from tiny_server import make_model

from tinyslm.inference.engine import Engine
from tinyslm.inference.opening import open_engine
from tinyslm.model.folder import write_card
from tinyslm.serving.models import Models, Unavailable, UnknownModel, weight_bytes

MB = 1_000_000


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory):
    """Three tiny models."""
    root = tmp_path_factory.mktemp("several")
    return {name: make_model(root / name, seed, depth=1, context=64) for seed, name in enumerate("abc")}


class Loads:
    """Opens models, and remembers which."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __call__(self, path) -> Engine:
        self.paths.append(path.name)
        return open_engine(path)


def test_models_of_plain_text_are_known_before_they_are_loaded(folders, tmp_path: Path) -> None:
    plain = make_model(tmp_path / "plain", depth=1, context=64)
    write_card(plain, {"bits_per_byte": 1.5})
    models = Models({**folders, "plain": plain, "gone": tmp_path / "gone.gguf"}, open_engine)
    known = [models.holds_conversations(name) for name in models.names]
    assert known == [True, True, True, False, None]


def test_models_are_loaded_once_on_demand(folders) -> None:
    load = Loads()

    async def use() -> None:
        models = Models(folders, load)
        await models.load_first()
        assert load.paths == ["a"]

        async def ask(name: str) -> int:
            async with models.use(name) as served:
                return id(served.engine)

        engines = await asyncio.gather(*[ask("b") for _ in range(5)])
        assert len(set(engines)) == 1
        assert load.paths == ["a", "b"]
        assert set(models.loaded()) == {"a", "b"}
        with pytest.raises(UnknownModel, match='no model "d"'):
            await ask("d")
        await models.close()
        assert not models.loaded()
        with pytest.raises(Unavailable, match="closing"):
            await ask("a")

    asyncio.run(use())


def test_idle_models_are_unloaded_except_the_first(folders) -> None:
    async def use() -> None:
        models = Models(folders, open_engine, idle=0.01)
        await models.load_first()
        async with models.use("b"):
            await asyncio.sleep(0.05)
            await models.unload_idle()
            assert set(models.loaded()) == {"a", "b"}
        await asyncio.sleep(0.05)
        await models.unload_idle()
        assert set(models.loaded()) == {"a"}
        await models.close()

    asyncio.run(use())


def test_a_model_that_cannot_be_loaded_is_tried_again(folders, tmp_path) -> None:
    paths = {"a": folders["a"], "broken": tmp_path / "broken"}

    async def use() -> None:
        models = Models(paths, open_engine)
        with pytest.raises(Unavailable, match='"broken" could not be loaded'):
            async with models.use("broken"):
                pass
        make_model(paths["broken"])
        async with models.use("broken") as served:
            assert served.engine.complete("x")
        await models.close()

    asyncio.run(use())


def test_the_least_recently_used_model_makes_room(tmp_path) -> None:
    """In a process of its own, whose memory is that of the models and of nothing else."""
    shape = {"dim": 384, "depth": 4, "context": 64}
    folders = {name: make_model(tmp_path / name, seed, **shape) for seed, name in enumerate("abc")}
    assert 20 * MB < weight_bytes(folders["a"]) < 40 * MB
    with ProcessPoolExecutor(1, get_context("spawn")) as processes:
        processes.submit(_make_room, folders).result(timeout=200)


def _make_room(folders: dict[str, Path]) -> None:
    async def use() -> None:
        taken = []
        warm = Models(folders, open_engine)
        for name in "abc":
            async with warm.use(name):
                taken.append(psutil.Process().memory_info().rss)
        await warm.close()
        models = Models(folders, open_engine, memory=(taken[1] + taken[2]) // 2)  # room for two
        for name in "ab":
            async with models.use(name):
                pass
        async with models.use("a"):  # so that b is the one used longest ago
            pass
        async with models.use("c") as served:
            assert served.engine.complete("x")
            assert set(models.loaded()) == {"a", "c"}
            async with models.use("a"):
                with pytest.raises(Unavailable, match="no memory"):
                    async with models.use("b"):
                        pass
        async with models.use("b"):
            assert "b" in models.loaded()
        await models.close()

    asyncio.run(use())


def test_a_server_lists_and_serves_them(serve, folders) -> None:
    with serve(folders) as running:
        loaded = {model.id: model.loaded for model in running.client.models.list()}
        assert loaded == {"a": True, "b": False, "c": False}
        texts = [
            running.client.completions.create(model=name, prompt="x", max_tokens=20, seed=1).choices[0].text
            for name in "abc"
        ]
        assert len(set(texts)) == 3
        with running.http() as http:
            metrics = http.get("/metrics").text
        assert 'tinyslm_model_loaded{model="c"} 1.0' in metrics
        assert 'tinyslm_prompt_tokens_total{model="b"} 1.0' in metrics
        assert 'tinyslm_requests_total{route="/v1/completions",status="200"} 3.0' in metrics


def test_every_series_is_documented(running) -> None:
    running.client.completions.create(model="tiny", prompt="x", max_tokens=2)
    with running.http() as http:
        page = http.get("/metrics").text
    guide = (Path(__file__).parents[2] / "docs/serving.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(tinyslm_\w+)` \| (.*?) \|", guide, re.MULTILINE))
    assert set(re.findall(r"^# TYPE (\w+) ", page, re.MULTILINE)) == rows.keys()
    for name, labels in rows.items():
        found = re.search(rf"^{name}(?:_count)?{{(.*?)}}", page, re.MULTILINE)
        assert {*re.findall(r"(\w+)=", found[1])} == {*re.findall(r"\w+", labels)}, name
    assert "_created" not in page
