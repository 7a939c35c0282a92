"""Whether runs are compiled: tried where it can pay, remembered, recorded, and the same for a run that is resumed."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tinyslm.core.config import build_config, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import sha256_file, write_json
from tinyslm.core.json_files import read_json
from tinyslm.data.shards import Shards
from tinyslm.hardware import compiling as native
from tinyslm.model.kernels.library import kernels
from tinyslm.planning.train import resume
from tinyslm.training import compiling, deadline
from tinyslm.training.compiling import Compiling, out_of_question, place_of
from tinyslm.training.config import LoopConfig, RunConfig
from tinyslm.training.deadline import Decisions, RunCosts
from tinyslm.training.metrics import read_metrics
from tinyslm.training.pipeline import finish, logged, start
from tinyslm.training.report import write_report
from tinyslm.training.run import Run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler has many
CPU = torch.device("cpu")
UPDATES_ALONE = RunCosts(update=0.25, validation=0, weights=0, sample=0, checkpoint=0, scoring=0, report=0)
FAST = {"on": True, "reason": "it is faster", "eager": 0.1, "compiled": 0.01, "warm_up": 0.5}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of these tests' own, where compiled libraries of the user's stay at hand."""
    folder = tmp_path_factory.mktemp("cache")
    libraries = native.cache_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "cache_folder", lambda: libraries)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # put back at the end, whatever a run sets it to
        patch.delenv("TORCHINDUCTOR_CACHE_DIR")
        yield folder / "tinyslm"


@pytest.fixture
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One that sees the same graphs but makes no C++ of them, which takes minutes (`test_killed_runs.py` waits)."""
    torch._dynamo.reset()
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    yield
    torch._dynamo.reset()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each time that updates are timed: whether they were compiled."""
    ways: list[bool] = []

    def watched(model, *given):
        ways.append(model.model._compiled_call_impl is not None)
        return time_updates(model, *given)

    time_updates = deadline.time_updates
    monkeypatch.setattr(deadline, "time_updates", watched)
    return ways


def begin(out: Path, shards: Shards, config: RunConfig) -> Run:
    """A run whose clock stands still, so that nothing takes any of its time."""
    return Run.start(out, shards.folder, config, clock=lambda: 0.0)


def by_updates(folder: Path) -> Run:
    """Go on with a run on a machine where updates take a quarter of a second, and nothing else any time."""
    run = Run.resume(folder, clock=lambda: 0.0)
    run.clock = lambda: 0.25 * run.progress.step
    return run


@pytest.fixture
def config(tiny_config, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A run of ten seconds that its compiler may be tried for: as on a processor that there are no kernels for."""
    monkeypatch.setattr(compiling, "kernels", lambda numbers: None)
    train = {"steps": 0, "minutes": 10 / 60, "dtype": "fp32", "micro_batch": 0}
    return tiny_config(model={"depth": 1, "dropout": 0.1}, train=train)


@pytest.mark.usefixtures("quick_compiler")
def test_it_is_tried_once_and_the_faster_way_is_taken(
    cache: Path, shards: Shards, config: RunConfig, measured: list[bool], monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiling, "WARM_UP", {"cpu": 0.0})
    run = begin(tmp_path / "first", shards, config)
    found = run.deadline.decisions.compiling
    assert measured == [False, True]
    assert found.on == (found.compiled < 0.98 * found.eager)
    assert found.warm_up > found.compiled
    assert run.config.train.compile == ("on" if found.on else "off")
    assert run.progress.costs.update >= (found.compiled if found.on else found.eager)  # and the time of a batch
    assert (run.model.model._compiled_call_impl is not None) == found.on
    assert Decisions.read(tmp_path / "first" / "deadline.json").compiling == found
    assert read_json(tmp_path / "first" / "config.json")["train"]["compile"] == run.config.train.compile
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(cache / "torch")
    assert (cache / "torch").is_dir()

    begin(tmp_path / "second", shards, config)
    assert len(measured) == 3


def test_a_compiler_that_fails_is_no_end(
    cache: Path, shards: Shards, config: RunConfig, measured: list[bool], monkeypatch, tmp_path: Path
) -> None:
    from torch._inductor import config as inductor

    monkeypatch.setattr(compiling, "WARM_UP", {"cpu": 0.0})
    other = build_config(RunConfig, merge(config.model_dump(), {"model": {"dim": 48, "heads": 3, "kv_heads": 3}}))
    with inductor.patch({"cpp.cxx": ("false",)}):
        run = begin(tmp_path / "run", shards, other)
    found = run.deadline.decisions.compiling
    assert found.reason.startswith("compiling failed: ")
    assert (found.on, found.compiled, run.config.train.compile) == (False, None, "off")
    assert measured == [False, True]
    assert not place_of(run.config, CPU, torch.float32).exists()  # the next run tries again


def in_mind(config: RunConfig, shards: Shards, **found: object) -> Path:
    """Let it be remembered that an earlier run has found this."""
    whole = build_config(RunConfig, merge(config.model_dump(), {"model": {"vocab_size": shards.tokenizer.vocab_size}}))
    file = place_of(whole, CPU, torch.float32)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(file, FAST | found)
    return file


@pytest.mark.usefixtures("quick_compiler")
def test_a_compiled_run_that_is_resumed_is_the_run_that_was_left_alone(
    cache: Path, shards: Shards, config: RunConfig, measured: list[bool], tmp_path: Path
) -> None:
    hashes, warm_ups = [], []
    for name, stop_at in (("undisturbed", 0), ("stopped", 5)):
        file = in_mind(config, shards, warm_up=0.0)
        begun = begin(tmp_path / name, shards, config)
        assert begun.config.train.compile == "on"
        warm_ups.append(read_json(file)["warm_up"])
        planned = Decisions(40, 0.0, UPDATES_ALONE, compiling=begun.deadline.decisions.compiling)
        planned.write(tmp_path / name / "deadline.json")
        begun.close()
        run = by_updates(tmp_path / name)
        if stop_at:
            events = logged(run)
            while next(events).get("step") != stop_at:
                pass
            events.close()
            run = by_updates(tmp_path / name)
        assert run.model.model._compiled_call_impl is not None
        finish(run)
        hashes.append(sha256_file(tmp_path / name / "model" / "model.safetensors"))
    assert hashes[0] == hashes[1]
    assert measured == [True, True]  # not as it is written: that is remembered
    (first, *_) = read_metrics(tmp_path / "stopped" / "metrics.jsonl")
    assert first["compiling"]["reason"] == "an earlier run found it faster"
    assert warm_ups[0] > 0  # what it took this time; once more in the same process it takes none
    page = write_report(tmp_path / "stopped").read_text()
    assert "Updates were compiled with torch.compile: an earlier run found it faster. Measured before: 100 ms" in page


@pytest.mark.parametrize("found", [{"warm_up": 10.0}, {"on": False, "compiled": 0.2}, {"compiled": None}])
def test_what_did_not_pay_is_not_done_again(
    cache: Path, shards: Shards, config: RunConfig, measured: list[bool], tmp_path: Path, found: dict[str, object]
) -> None:
    in_mind(config, shards, **found)
    run = begin(tmp_path / "run", shards, config)
    assert run.config.train.compile == "off"
    assert run.deadline.decisions.compiling.reason == "an earlier run found that it would not pay"
    assert measured == [False]
    other = build_config(RunConfig, merge(config.model_dump(), {"model": {"dim": 64}}))
    assert place_of(other, CPU, torch.float32) != place_of(config, CPU, torch.float32)


def test_a_damaged_memory_is_none(cache: Path, shards: Shards, config: RunConfig, tmp_path: Path) -> None:
    for number, content in enumerate(("", "[]", '{"on": true}', '{"wrong": 1}')):
        in_mind(config, shards).write_text(content)
        run = begin(tmp_path / f"run-{number}", shards, config)
        assert run.deadline.decisions.compiling.reason == "the run is too short to find out whether it would pay"


def test_a_short_run_is_not_compiled(
    tmp_path: Path, shards: Shards, config: RunConfig, measured: list[bool], monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = begin(tmp_path / "run", shards, config)
    assert (run.config.train.compile, measured) == ("off", [False])
    run.close()
    result = resume(tmp_path / "run", settings=config)  # it was auto when the run was started
    assert result["step"] > 0
    assert "Updates were not compiled with torch.compile: the run is too short" in run.folder.report.read_text()


def test_steps_that_are_given_are_not_compiled_unless_asked_for(tmp_path: Path, shards: Shards, tiny_config) -> None:
    assert start([shards.folder], tmp_path / "run", config=tiny_config()).config.train.compile == "off"
    assert read_json(tmp_path / "run" / "config.json")["train"]["compile"] == "off"
    asked = start([shards.folder], tmp_path / "asked", config=tiny_config(train={"compile": "on"}))
    assert asked.model.model._compiled_call_impl is not None


def test_when_it_is_out_of_the_question(tmp_path: Path, shards: Shards, tiny_config, monkeypatch) -> None:
    assert out_of_question(torch.device("mps"), torch.float32) == "it is not tried on mps"
    for dtype in (torch.bfloat16, torch.float32):
        refused = out_of_question(CPU, dtype) == "the kernels for this processor are as fast"
        assert refused == bool(kernels(dtype))
    monkeypatch.setattr(compiling, "kernels", lambda numbers: None)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in out_of_question(CPU, torch.float32)
    with pytest.raises(TinyslmError, match=r"train\.compile is on, but there is no C\+\+ compiler no-such-compiler"):
        start([shards.folder], tmp_path / "run", config=tiny_config(train={"compile": True}))


def test_it_pays_when_more_is_gained_than_compiling_takes() -> None:
    found = Compiling(True, "", eager=0.2, compiled=0.15, warm_up=30.0)
    assert not found.pays(110)
    assert found.pays(130)
    assert not found.pays(0)
    assert not replace(found, compiled=0.3).pays(1e9)


@pytest.mark.parametrize(
    ("given", "read"),
    [(True, "on"), (False, "off"), ("true", "on"), ("false", "off"), ("auto", "auto"), ("on", "on")],
)
def test_the_switch_is_also_true_or_false(given: object, read: str) -> None:
    assert LoopConfig.model_validate({"compile": given}).compile == read
    assert json.loads(LoopConfig.model_validate({"compile": given}).model_dump_json())["compile"] == read
