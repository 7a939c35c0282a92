"""Weights replaced while an engine is open: it generates what a new engine with these weights generates."""

import pytest
import torch

from tinyslm.compression.config import QuantizeConfig
from tinyslm.compression.quantizing import quantize
from tinyslm.core.errors import TinyslmError
from tinyslm.inference.batching import EngineOptions
from tinyslm.inference.engine import Engine, EngineFull
from tinyslm.inference.native.build import available
from tinyslm.inference.request import Request
from tinyslm.inference.runners import make_runner
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.folder import load_model, load_tokenizer

PROMPT = "def find(name):\n    return " * 3
GREEDY = SamplingSettings(temperature=0, max_tokens=10)
FORMATS = {
    "fp32": lambda folder, place: load_model(folder),
    "bf16": lambda folder, place: load_model(folder, dtype=torch.bfloat16),
    "int8": lambda folder, place: quantized(folder, place, "int8"),
    "int4": lambda folder, place: quantized(folder, place, "int4"),
}


def quantized(folder, place, scheme: str):
    quantize(folder, place, QuantizeConfig(scheme=scheme, method="rtn"))
    return load_model(place)


@pytest.fixture(scope="module")
def models(folder, make_tiny, tmp_path_factory):
    """Two models of one shape in each format."""
    place = tmp_path_factory.mktemp("formats")
    return {
        name: [made(one, place / f"{name}-{number}") for number, one in enumerate([folder, make_tiny(seed=5)])]
        for name, made in FORMATS.items()
    }


def opened(model, folder, runner: str) -> Engine:
    if runner == "native" and (why_not := available()):
        pytest.skip(why_not)
    options = EngineOptions(cache_tokens=1024)
    return Engine(
        model, load_tokenizer(folder), options, runner=lambda model, blocks: make_runner(model, blocks, runner, 1)
    )


@pytest.mark.parametrize("runner", ["native", "torch"])
@pytest.mark.parametrize("name", list(FORMATS))
def test_new_weights_give_what_a_new_engine_gives(models, folder, name: str, runner: str) -> None:
    old, new = models[name]
    engine, fresh = opened(old, folder, runner), opened(new, folder, runner)
    before = engine.complete(PROMPT, GREEDY, heal=False)
    engine.load_weights(new)
    expected = fresh.complete(PROMPT, GREEDY, heal=False)
    assert engine.complete(PROMPT, GREEDY, heal=False) == expected != before
    ids = list(engine.prompt_ids(PROMPT))
    assert (engine.embed(ids) == fresh.embed(ids)).all()
    assert engine.stats().generated_tokens == 20
    engine.load_weights(old)
    assert engine.complete(PROMPT, GREEDY, heal=False) == before


def test_the_number_format_may_change(models, folder) -> None:
    engine = opened(models["fp32"][0], folder, "native")
    engine.load_weights(models["int4"][1])
    expected = opened(models["int4"][1], folder, "native").complete(PROMPT, GREEDY)
    assert engine.complete(PROMPT, GREEDY) == expected


@pytest.mark.parametrize("runner", ["native", "torch"])
def test_weights_changed_in_place_need_the_call_and_drop_cached_prompts(folder, runner: str) -> None:
    model = load_model(folder)
    engine = opened(model, folder, runner)
    request = Request(engine.prompt_ids(PROMPT), GREEDY)
    engine.submit(request).whole()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.v_proj.weight.mul_(-2.0)
    engine.load_weights(model)
    generation = engine.submit(request)
    assert generation.whole() == opened(model, folder, runner).submit(request).whole()
    assert generation.usage.cached_tokens == 0


@pytest.mark.parametrize("threaded", [True, False])
def test_running_requests_end_with_the_old_weights(models, folder, threaded: bool) -> None:
    old, new = models["fp32"]
    engine = opened(old, folder, "torch")
    expected = [opened(model, folder, "torch").complete(PROMPT, GREEDY, n=3) for model in (old, new)]
    if threaded:
        engine.start()
    request = engine.completion_request(PROMPT, GREEDY, n=3)
    running = engine.submit(request)
    engine.load_weights(new)
    assert [running.whole(), engine.submit(request).whole()] == expected
    engine.close()


def test_another_shape_is_refused_and_the_engine_goes_on(models, folder, make_tiny) -> None:
    engine = opened(models["fp32"][0], folder, "torch")
    before = engine.complete(PROMPT, GREEDY)
    with pytest.raises(TinyslmError, match="another shape: depth 1 instead of 2"):
        engine.load_weights(load_model(make_tiny(depth=1)))
    assert engine.complete(PROMPT, GREEDY) == before
    engine.close()
    with pytest.raises(EngineFull):
        engine.load_weights(models["fp32"][1])
