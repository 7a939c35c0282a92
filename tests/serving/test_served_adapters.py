"""Adapters of one base in one server, chosen by the name of the model."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tinyslm.cli.serve import _sources
from tinyslm.core.errors import TinyslmError
from tinyslm.inference.opening import open_engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.adapted import AdaptedModel
from tinyslm.model.folder import load_model
from tinyslm.model.lora import add_adapters, save_adapters
from tinyslm.model.lora_config import LoraConfig
from tinyslm.serving.models import Models, Unavailable

TOKENS = 12


@pytest.fixture(scope="module")
def sources(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | AdaptedModel]:
    """The tiny model and two adapters of it."""
    found: dict[str, Path | AdaptedModel] = {"tiny": model_folder}
    for seed, name in enumerate(("support", "sql")):
        torch.manual_seed(seed)
        model, config = load_model(model_folder), LoraConfig(rank=2)
        add_adapters(model, config)
        for key, parameter in model.named_parameters():
            if key.endswith("adapter.B"):
                torch.nn.init.normal_(parameter, std=0.3)
        folder = tmp_path_factory.mktemp("adapters") / name
        save_adapters(model, folder, config, model_folder)
        found[name] = AdaptedModel(model_folder, folder)
    return found


def test_each_name_answers_with_its_own_weights_at_the_same_time(serve, sources) -> None:
    expected = {}
    for name, source in sources.items():
        engine = open_engine(source)
        expected[name] = engine.complete("abc", SamplingSettings(max_tokens=TOKENS, temperature=0.0))[0].text
        engine.close()
    assert len(set(expected.values())) == 3
    with serve(sources) as running, ThreadPoolExecutor(6) as threads:

        def ask(name: str) -> str:
            asked = {"prompt": "abc", "max_tokens": TOKENS, "temperature": 0}
            return running.client.completions.create(model=name, **asked).choices[0].text

        names = [*sources] * 3
        assert list(threads.map(ask, names)) == [expected[name] for name in names]
        with running.http() as client:
            listed = {one["id"]: one for one in client.get("/v1/models").json()["data"]}
            answer = client.post("/v1/completions", json={"model": "suport", "prompt": "a"})
        assert {name: one.get("parent") for name, one in listed.items()} == {
            "tiny": None,
            "support": "tiny",
            "sql": "tiny",
        }
        assert answer.status_code == 404
        assert "support" in answer.text


def test_an_adapter_is_expected_to_take_what_its_base_took(sources) -> None:
    async def use() -> None:
        models = Models(sources, open_engine)
        await models.load_first()
        models._slots["tiny"].bytes = 2**60
        with pytest.raises(Unavailable, match='no memory for the model "sql"'):
            async with models.use("sql"):
                pass
        await models.close()

    asyncio.run(use())


def test_options_name_models_and_adapters(sources, model_folder: Path) -> None:
    folder = sources["sql"].adapter
    found = _sources(model_folder, (f"more={model_folder}",), (f"sql={folder}",))
    assert found == {"tiny": model_folder, "more": model_folder, "sql": sources["sql"]}
    for more, adapters, words in (
        ((), ("sql",), "--adapter sql is not a named adapter"),
        ((), (f"tiny={folder}",), 'Two models are called "tiny"'),
        ((), (f"sql={model_folder}",), "There is no adapter"),
    ):
        with pytest.raises(TinyslmError, match=words):
            _sources(model_folder, more, adapters)
    found = _sources(None, (f"tiny={model_folder}",), (f"sql={folder}",))
    assert found == {"tiny": model_folder, "sql": sources["sql"]}
    with pytest.raises(TinyslmError, match="No model was given"):
        _sources(None, (), (f"sql={folder}",))


def test_a_file_lists_more_of_them(sources, model_folder: Path, tmp_path: Path) -> None:
    adapter = sources["sql"].adapter
    (tmp_path / "more").symlink_to(model_folder)
    listed = tmp_path / "models.toml"
    listed.write_text(f'[models]\nmore = "more"\n[adapters]\nsql = "{adapter}"\n')
    found = _sources(model_folder, (), (), listed)
    assert found == {"tiny": model_folder, "more": tmp_path / "more", "sql": sources["sql"]}
    listed.write_text(f'[models]\ntiny = "{model_folder}"\n')
    assert _sources(None, (), (), listed) == {"tiny": model_folder}
    with pytest.raises(TinyslmError, match='Two models are called "tiny"'):
        _sources(model_folder, (), (), listed)
    listed.write_text("[model]\n")
    with pytest.raises(TinyslmError, match="models"):
        _sources(model_folder, (), (), listed)


def test_a_symbolic_link_is_called_as_it_was_given(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "support").symlink_to(model_folder)
    assert list(_sources(tmp_path / "support", (), ())) == ["support"]
