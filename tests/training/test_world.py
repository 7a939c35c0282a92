"""Several processes: shares of a batch, one gradient, and one run on two processes that equals a run on one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from several import free_port, join
from tiny_run import TINY

from tinyslm.core.config import build_config, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.data.shards import Shards
from tinyslm.model.folder import load_model
from tinyslm.training.config import RunConfig
from tinyslm.training.muon import orthogonalize
from tinyslm.training.run import Run
from tinyslm.training.sharding import choose_sharding, in_turns, is_sharded, rows_of
from tinyslm.training.world import World

EXACT = {
    "model": {"dropout": 0.0},
    "optimizer": {"name": "adamw"},
    "train": {"dtype": "fp32", "micro_batch": 0, "steps": 4, "validate_every": 2},
}


@pytest.mark.parametrize(("count", "size"), [(4, 2), (5, 2), (7, 3), (3, 3)])
def test_shares_cover_everything_once(count: int, size: int) -> None:
    shares = [World(rank, size).share(count) for rank in range(size)]
    assert [item for share in shares for item in range(count)[share]] == list(range(count))
    lengths = [share.stop - share.start for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_two_processes_train_as_one(processes, tmp_path: Path, shards: Shards) -> None:
    """Gradients of unequal shares (3 sequences and 2), and the weights at the end."""
    config = merge(merge(TINY, EXACT), {"train": {"batch": 5}})
    _work(0, 1, 0, str(shards.folder), str(tmp_path / "alone"), config)
    arguments = (2, free_port(), str(shards.folder), str(tmp_path / "both"), config)
    both = [processes.Process(target=_work, args=(rank, *arguments)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    alone, first, second = (
        torch.load(tmp_path / name, weights_only=True) for name in ("alone.0.pt", "both.0.pt", "both.1.pt")
    )
    for name, gradient in alone.items():
        torch.testing.assert_close(first[name], gradient, atol=1e-6, rtol=1e-5)
        assert first[name].equal(second[name])
    ends = [load_model(tmp_path / name / "model").state_dict() for name in ("alone", "both")]
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, atol=1e-5, rtol=1e-4)
    divided, whole = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("both-divided", "alone"))
    for name, tensor in whole.items():  # whose weights were divided over the processes
        torch.testing.assert_close(divided[name], tensor, atol=1e-5, rtol=1e-4)
    files = [
        tmp_path / name / "checkpoints" / "step-000004" / "state.safetensors" for name in ("alone", "both-divided")
    ]
    for states in zip(*(sorted(load_file(file).items()) for file in files), strict=True):
        (name, one), (other_name, other) = states
        assert (name, one.shape) == (other_name, other.shape), "a checkpoint does not tell by how many it was written"
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("alone", "both")]
    assert results[0]["training_tokens"] == results[1]["training_tokens"]
    assert results[0]["bits_per_byte"] == pytest.approx(results[1]["bits_per_byte"], abs=1e-4)


def _work(rank: int, size: int, port: int, data: str, out: str, config: dict) -> None:
    """One process: a gradient, saved as `out.rank.pt`, then a whole run."""
    from tinyslm.training.loop import accumulate, scale_and_clip
    from tinyslm.training.pipeline import finish

    torch.set_num_threads(1)
    if size > 1:
        join(rank, size, port)
    run = Run.start(Path(out), Path(data), build_config(RunConfig, config))
    state = run.stage.batches.state()
    _, weight, tokens, _ = accumulate(
        run.model, run.stage.loss, run._next_batch(), run._step_settings(), World.current()
    )
    scale_and_clip(run.model, weight, 0.0)
    assert tokens == 5 * 16
    torch.save({name: p.grad.clone() for name, p in run.model.named_parameters()}, f"{out}.{rank}.pt")
    run.optimizers.drop_gradients()
    run.stage.batches.restore(state)
    finish(run)
    if size > 1:
        _contracts(World.current(), Path(out), Path(data), config)
        torch.distributed.destroy_process_group()


def _contracts(world: World, out: Path, data: Path, config: dict) -> None:
    """What processes promise each other, checked in each of them."""
    assert world.gather(world.rank) == [0, 1]
    assert world.any(False, world.rank == 1, True) == [False, True, True]
    assert world.lead(lambda: "done") == "done"
    with pytest.raises(TinyslmError, match=r"Process 1 on .* differs from process 0 on .* in torch: 2 instead of 1\."):
        world.agree({"python": "3", "torch": str(world.rank + 1)}, "")
    with pytest.raises(TinyslmError, match=r"Process 1 on .*: no data"):
        world.meet(lambda: _fails_in_the_second(world))
    run = Run.start(Path(f"{out}-more"), data, build_config(RunConfig, config))
    losses = run.stage.loss
    run.stage.loss = lambda model, batch: _spoiled(losses(model, batch), world, run.progress.step)  # type: ignore[method-assign]
    reports = run._updates()
    skipped = []
    for _ in range(3):
        skipped.append(next(reports).skipped)
        run.progress = replace(run.progress, step=len(skipped))
    assert skipped == ["", "the loss is not finite", ""], "all processes skip the same update"
    run.close()
    run = Run.start(Path(f"{out}-divided"), data, build_config(RunConfig, merge(config, {"train": {"shard": "full"}})))
    assert is_sharded(run.model)
    fits = choose_sharding(build_config(RunConfig, config), world)
    assert not fits.on
    assert " are free" in fits.reason
    for changes, why in (
        ({"stage": "dpo", "start_from": "x"}, "the stage dpo"),
        ({"compile": "on"}, "compiled updates"),
    ):
        settings = build_config(RunConfig, merge(config, {"train": {"shard": "full", **changes}}))
        with pytest.raises(TinyslmError, match=why):
            choose_sharding(settings, world)
    for _ in run.events():
        pass
    torch.manual_seed(0)
    for rows, count in ((6, 3), (3, 1)):
        matrices = torch.randn(count, rows, 4)
        matrices = matrices.to(orthogonalize(matrices).dtype)
        mine = torch.stack([rows_of(matrix, world) for matrix in matrices])
        expected = [rows_of(matrix, world) for matrix in orthogonalize(matrices)]
        torch.testing.assert_close(in_turns(mine, rows, world, orthogonalize), torch.stack(expected))


def _fails_in_the_second(world: World) -> str:
    if world.rank == 1:
        raise TinyslmError("no data", "")
    return "found"


def _spoiled(found: tuple, world: World, step: int) -> tuple:
    """A loss that is not finite in one update of one process."""
    total, *rest = found
    return (total * float("nan") if world.rank == 1 and step == 1 else total, *rest)
