"""Measure the cost of an update on this machine: time updates of small trial models, and fit a linear cost model.

The cost model counts the work of an update by kind, because machines do each kind at a different rate: matrix products
in blocks, attention, products with the token table, logits, values and positions that pass through blocks, blocks,
Muon's products, and weights. The seconds per unit of each kind are fitted to the trials. A few trials on a busy machine
do not determine all of them, so the fit is regularized towards a typical machine, scaled to the speed of this one.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from tinyslm.core.config import Section, build_config
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.hardware.limits import usable_cores
from tinyslm.hardware.speed import wait_for
from tinyslm.model.config import GATED, ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.training.compiling import compile_native
from tinyslm.training.config import OptimizerConfig, RunConfig
from tinyslm.training.deadline import Rates
from tinyslm.training.loop import StepSettings, accumulate, scale_and_clip
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.stage import Batch
from tinyslm.training.stages.pretrain import next_token_loss

MUON_ITERATIONS = 5
FP32_TIMES = 2.5
"""Approximate ratio of the time of products in fp32 to that in a shorter type."""
WARM_UP, FEWEST, MOST = 1, 1, 5
SECONDS = 5.0
SHORT_OF_TIME = 256
"""With less than half of `SECONDS`, wider trials are left out: plans for so little time have no such widths."""
TRUST = 0.15
"""Weight of the typical machine relative to one trial."""
FORWARD_SHARE = 1 / 3
"""Share of the products of a training step that the forward pass needs, as in a validation."""


class Trial(NamedTuple):
    """The shape of a trial model and of its batch."""

    dim: int
    depth: int
    vocab_size: int
    context: int
    batch: int


CPU_TRIALS = (
    Trial(64, 2, 320, 128, 16),
    Trial(64, 2, 4096, 256, 8),
    Trial(128, 1, 4096, 256, 4),
    Trial(128, 4, 320, 256, 8),
    Trial(256, 1, 320, 512, 4),
    Trial(256, 2, 4096, 128, 8),
    Trial(384, 2, 1024, 256, 4),
    Trial(512, 1, 320, 256, 8),
)
GPU_TRIALS = (
    Trial(128, 2, 4096, 256, 32),
    Trial(256, 4, 1024, 512, 32),
    Trial(512, 2, 16384, 256, 64),
    Trial(512, 8, 4096, 256, 32),
    Trial(768, 4, 8192, 1024, 16),
    Trial(1024, 4, 4096, 256, 64),
    Trial(1536, 4, 4096, 512, 32),
)


class Work(NamedTuple):
    """The work of one update by kind: products in 10^12 operations, blocks and matrices, and the rest in millions."""

    block_products: float
    attention_products: float
    table_products: float
    logits: float
    values: float
    positions: float
    blocks: float
    muon_products: float
    weights: float
    matrices: float


TYPICAL_CPU = Work(8.0, 16.0, 9.0, 0.001, 0.01, 0.5, 0.001, 10.0, 0.01, 0.001)
TYPICAL_GPU = Work(4e-3, 1e-2, 5e-3, 5e-6, 1e-5, 1e-4, 1e-3, 6e-3, 2e-5, 1e-3)
"""Seconds for each kind of work; only their ratios matter."""
COMPUTING = 7
"""The number of kinds, from the first on, in the forward and backward passes; the optimizers do the others."""


class MachineCosts(Section):
    """Measured seconds of this machine for one unit of each kind of work."""

    device: str = Field(description="Device: cpu, cuda or mps.")
    dtype: str = Field(description="Type of the products.")
    threads: int = Field(gt=0, description="Number of threads.")
    block_products: float = Field(ge=0, description="Seconds for 10^12 operations of the products in blocks.")
    attention_products: float = Field(ge=0, description="Seconds for 10^12 operations of attention.")
    table_products: float = Field(ge=0, description="Seconds for 10^12 operations of the products with the table.")
    logits: float = Field(ge=0, description="Seconds for a million logits.")
    values: float = Field(ge=0, description="Seconds for a million values that pass through blocks.")
    positions: float = Field(ge=0, description="Seconds for a million tokens that pass through a block of any width.")
    blocks: float = Field(ge=0, description="Constant seconds for a block.")
    muon_products: float = Field(ge=0, description="Seconds for 10^12 operations of Muon's products.")
    weights: float = Field(ge=0, description="Seconds for the optimizer's step of a million weights.")
    matrices: float = Field(ge=0, description="Constant seconds for the optimizer's step of a block.")
    measuring_seconds: float = Field(ge=0, description="Duration of the measurement, including compilation.")

    def rates(self, config: RunConfig) -> Rates:
        """The times from which a run with these settings plans its updates."""
        update, units = np.array(work(config)), np.array(self._units())
        tokens = config.train.batch * config.model.context
        validation = FORWARD_SHARE * float(update[:COMPUTING] @ units[:COMPUTING]) / tokens
        scoring = validation * (1.0 if self.dtype == "float32" else FP32_TIMES)
        return Rates(float(update @ units), validation, scoring)

    def _units(self) -> list[float]:
        return [getattr(self, kind) for kind in Work._fields]


def work(config: RunConfig) -> Work:
    """The work of one update with these settings: six operations per weight and token (Kaplan et al., 2020)."""
    model, optimizer = config.model, config.optimizer
    tokens = config.train.batch * model.context
    table = model.vocab_size * model.dim
    in_blocks = model.parameters - table * (1 if model.tied else 2)
    micro_batches = config.train.batch // (config.train.micro_batch or config.train.batch)
    muon = optimizer.name == "muon"
    passes = 4 / 3 if config.train.checkpoint_activations else 1.0
    return Work(
        block_products=6e-12 * in_blocks * tokens * passes,
        # Products of queries and keys, and of probabilities and values; the causal mask saves half of each.
        attention_products=6e-12 * tokens * model.context * model.heads * model.head_dim * model.depth * passes,
        table_products=6e-12 * table * tokens,
        logits=1e-6 * tokens * model.vocab_size,
        values=1e-6 * tokens * model.dim * (model.depth + 1) * passes,
        positions=1e-6 * tokens * (model.depth + 1) * passes,
        blocks=(model.depth + 1) * micro_batches,
        muon_products=1e-12 * muon_operations(model) if muon else 0.0,
        weights=1e-6 * model.parameters,
        matrices=model.depth + 1,
    )


def muon_operations(model: ModelConfig) -> float:
    """Operations to orthogonalise every matrix in the blocks once."""
    q, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    shapes = [(model.dim, q), (model.dim, kv), (model.dim, kv), (q, model.dim)]
    shapes += [(model.dim, model.ffn_dim)] * (3 if model.feed_forward in GATED else 2)
    total = 0.0
    for one, other in shapes:
        long, short = max(one, other), min(one, other)
        total += 2.0 * short * short * (2 * long + short) * MUON_ITERATIONS
    return total * model.depth


def measure_costs(
    device_name: str = "auto", dtype_name: str = "auto", *, trials: Sequence[Trial] = (), seconds: float = SECONDS
) -> MachineCosts:
    """Time the trials on a device for about `seconds`, and preserve the state of random number generators.

    On a CPU, the native libraries of runs are compiled first; only the first plan on a machine includes that time.
    """
    begun = time.perf_counter()
    device = pick_device(device_name)
    dtype = pick_dtype(device, dtype_name)
    if device.type == "cpu":
        compile_native(dtype)
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    trials = trials or (GPU_TRIALS if device.type == "cuda" else CPU_TRIALS)
    trials = trials if seconds >= SECONDS / 2 else [trial for trial in trials if trial.dim <= SHORT_OF_TIME]
    typical = np.array(TYPICAL_GPU if device.type == "cuda" else TYPICAL_CPU)
    configs = [_config(trial) for trial in trials]
    with torch.random.fork_rng():
        timed = _time_all([_Timed(config, device, dtype) for config in configs], seconds)
    rows = np.array([work(config) for config in configs])
    computing = _fitted(rows[:, :COMPUTING], timed[:, 0], typical[:COMPUTING])
    stepping = _fitted(rows[:, COMPUTING:], timed[:, 1], typical[COMPUTING:])
    units = dict(zip(Work._fields, [*computing, *stepping], strict=True))
    rounded = {kind: float(f"{value:.4g}") for kind, value in units.items()}
    name = str(dtype).removeprefix("torch.")
    spent = round(time.perf_counter() - begun, 2)
    return MachineCosts(
        device=device.type, dtype=name, threads=torch.get_num_threads(), measuring_seconds=spent, **rounded
    )


def _config(trial: Trial) -> RunConfig:
    shape = trial._asdict()
    return build_config(RunConfig, {"train": {"batch": shape.pop("batch")}, "model": shape})


class _Timed:
    """A trial model whose updates can be timed repeatedly."""

    def __init__(self, config: RunConfig, device: torch.device, dtype: torch.dtype) -> None:
        self._model = Decoder(config.model).to(device)
        self._model.train()
        self._optimizers = Optimizers(self._model, OptimizerConfig())
        shape = (config.train.batch, config.model.context + 1)
        self._batch = Batch.of_windows(torch.randint(config.model.vocab_size, shape, device=device))
        self._settings = StepSettings(1, config.train.batch, 1.0, dtype, lambda _: 1e-4)

    def step(self) -> tuple[float, float]:
        """Seconds for the forward and backward pass of an update, and for the optimizers' step."""
        device = self._batch.inputs.device
        begun = _now(device)
        _, weight, _, _ = accumulate(self._model, next_token_loss, self._batch, self._settings)
        between = _now(device)
        scale_and_clip(self._model, weight, self._settings.clip)
        self._optimizers.step(1e-4)
        return between - begun, _now(device) - between


def _time_all(trials: Sequence[_Timed], seconds: float) -> NDArray[np.float64]:
    """The median seconds of each trial, `[trials, 2]`, which a long run will see too, unlike the minimum.

    The trials alternate, so that other load affects all of them.
    """
    rounds: list[list[tuple[float, float]]] = []
    end = time.perf_counter() + seconds
    while len(rounds) < WARM_UP + FEWEST or (len(rounds) < WARM_UP + MOST and time.perf_counter() < end):
        rounds.append([trial.step() for trial in trials])
    medians: NDArray[np.float64] = np.median(rounds[WARM_UP:], axis=0)
    return medians


def _now(device: torch.device) -> float:
    """The time after the device has finished all work."""
    wait_for(device)
    return time.perf_counter()


def _fitted(rows: NDArray[np.float64], seconds: NDArray[np.float64], typical: NDArray[np.float64]) -> list[float]:
    """Fit seconds per unit `[kinds]` to trials: non-negative least squares of the relative errors of `rows @ units`.

    rows: `[trials, kinds]`. The fit is regularized towards the typical values, scaled to this machine, and solved by
    coordinate descent (Franc et al., 2005).
    """
    near = typical * float(np.median(seconds / (rows @ typical)))
    scaled = np.concatenate([rows * near / seconds[:, None], TRUST * np.eye(len(typical))])
    wanted = np.concatenate([np.ones(len(seconds)), np.full(len(typical), TRUST)])
    lengths = np.linalg.norm(scaled, axis=0)
    scaled = scaled / lengths
    values = np.zeros(len(typical))
    for _ in range(2000):
        for kind in range(len(values)):
            values[kind] = max(0.0, values[kind] + scaled[:, kind] @ (wanted - scaled @ values))
    return [float(value) for value in values / lengths * near]
