"""What updates cost: how the work grows with the settings, and that real updates can be measured."""

import numpy as np
import pytest
import torch
from planned import MACHINE

from tinyslm.core.config import build_config, merge
from tinyslm.planning import cost
from tinyslm.planning.cost import TYPICAL_CPU, Trial, _fitted, measure_costs, work
from tinyslm.training.config import RunConfig

SHAPE = {"model": {"dim": 128, "depth": 2, "vocab_size": 1024, "context": 128}, "train": {"batch": 8}}


def changed(**sections) -> RunConfig:
    return build_config(RunConfig, merge(SHAPE, sections))


def test_work_is_counted_by_hand() -> None:
    found = work(changed())
    tokens, blocks = 8 * 128, changed().model.parameters - 2 * 1024 * 128
    assert found.block_products == pytest.approx(6e-12 * tokens * blocks)
    assert found.table_products == pytest.approx(6e-12 * tokens * 1024 * 128)
    assert found.attention_products == pytest.approx(6e-12 * tokens * 128 * 128 * 2)
    assert work(changed(optimizer={"name": "adamw"})).muon_products == 0
    assert work(changed(train={"micro_batch": 2})).blocks == 4 * found.blocks


@pytest.mark.parametrize(
    "larger",
    [{"model": {"dim": 192}}, {"model": {"depth": 3}}, {"model": {"vocab_size": 2048}}, {"train": {"batch": 9}}],
)
def test_more_work_takes_longer(larger) -> None:
    assert MACHINE.rates(changed(**larger)).update > MACHINE.rates(changed()).update
    rates = MACHINE.rates(changed())
    assert rates.scoring > rates.validation > 0


def test_costs_are_found_again_from_what_they_make() -> None:
    rows = np.random.default_rng(0).uniform(0.1, 1, (30, len(TYPICAL_CPU))) / TYPICAL_CPU
    true = 3 * np.array(TYPICAL_CPU) * np.array([1, 2, 0.5, 1.5, 1, 0.7, 3, 1, 0.2, 1])
    found = _fitted(rows, rows @ true, np.array(TYPICAL_CPU))
    assert rows @ np.array(found) == pytest.approx(rows @ true, rel=0.08)
    assert np.abs(np.log(np.array(found) / true)).mean() < np.abs(np.log(true / np.array(TYPICAL_CPU))).mean() / 3


def test_few_trials_leave_the_rest_as_on_a_typical_machine() -> None:
    rows = np.eye(len(TYPICAL_CPU))[:1] + 1e-6
    found = _fitted(rows, rows @ (4 * np.array(TYPICAL_CPU)), np.array(TYPICAL_CPU))
    assert found == pytest.approx((4 * np.array(TYPICAL_CPU)).tolist(), rel=0.05)


def test_real_updates_are_measured_and_leave_the_generators_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    costs = measure_costs("cpu", "fp32", trials=[Trial(32, 1, 320, 16, 2), Trial(64, 1, 320, 16, 2)], seconds=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert (costs.device, costs.dtype) == ("cpu", "float32")
    config = changed(model={"dim": 64, "depth": 1, "context": 16}, train={"batch": 2})
    assert 0 < costs.rates(config).update < 60


def test_compiling_counts_as_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first plan on a machine has that much less time for training."""
    now, compiled = [0.0], []

    def compile_native(dtype: torch.dtype) -> None:
        compiled.append(dtype)
        now[0] += 20

    monkeypatch.setattr(cost, "compile_native", compile_native)
    monkeypatch.setattr(cost.time, "perf_counter", lambda: now.__setitem__(0, now[0] + 1e-3) or now[0])
    costs = measure_costs("cpu", "fp32", trials=[Trial(32, 1, 320, 16, 2)], seconds=0)
    assert compiled == [torch.float32]
    assert 20 < costs.measuring_seconds < 21
