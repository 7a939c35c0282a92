"""Whole training steps, optimizer included: ours compared with a plain loop over transformers' GPT-2 of the same shape.

    python benchmarks/throughput.py                    10.65M parameters; the peer computes in fp32
    python benchmarks/throughput.py --device cuda      GPT-2's 124M; both in bf16, compiled, with fused AdamW

All train on the same random tokens and alternate in one process. Ours runs twice: with the default optimizer (Muon) and
with AdamW, which the peer uses. On a GPU the batch is 16 x 1,024, halved until everything fits, and the share of the
GPU's dense bf16 peak is given where its maker's figure is known.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch

import plain_gpt2
from harness import alternate, compare, finish, parser
from share_of_ceiling import operations
from tinyslm import Decoder, ModelConfig
from tinyslm.hardware.device import pick_dtype
from tinyslm.training.config import OptimizerConfig
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.stage import Batch
from tinyslm.training.stages.pretrain import next_token_loss

PEAKS = {"H100": 989, "H200": 989, "A100": 312, "L40S": 362, "L4": 121}
"""Dense bf16, 10^12 operations a second, from NVIDIA's data sheets (SXM)."""


@dataclass(frozen=True)
class Case:
    """What is trained. vocab_size: the peer's; ours is rounded down to a multiple of 64."""

    dim: int
    depth: int
    heads: int
    context: int
    vocab_size: int
    batch: int


CASES = {"cpu": Case(384, 6, 6, 256, 65, 16), "cuda": Case(768, 12, 12, 1024, 50_304, 16)}
PEERS = {"cpu": "transformers GPT-2, fp32", "cuda": "transformers, torch.compile"}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--device", choices=list(CASES), default="cpu")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=4, help="steps of each in one round")
    arguments = options.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no GPU.")
    device, peer = torch.device(arguments.device), PEERS[arguments.device]
    case, steppers = fitting(CASES[arguments.device], device)

    def rate(step: Callable[[], object]) -> float:
        start = time.perf_counter()
        for _ in range(arguments.steps):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return arguments.steps * case.batch * case.context / (time.perf_counter() - start)

    ways = {name: lambda _, step=step: rate(step) for name, step in steppers.items()}
    result = {**asdict(case), **compare(alternate(ways, range(arguments.rounds + 1)), peer)}
    if device.type == "cuda":
        result |= shares(result["tokens_per_second"], case, torch.cuda.get_device_name(device))
    finish(result)


def fitting(case: Case, device: torch.device) -> tuple[Case, dict[str, Callable[[], object]]]:
    """The contenders after their first step, with the largest batch that all of them have memory for."""
    while True:
        steppers: dict[str, Callable[[], object]] = {}
        try:
            for name in ("muon", "adamw"):
                steppers[f"tinyslm, {OPTIMIZERS[name]}"] = ours(case, name, device)
            steppers[PEERS[device.type]] = theirs(case, device)
            for step in steppers.values():
                step()
        except torch.OutOfMemoryError:
            if case.batch == 1:
                raise
            case = replace(case, batch=case.batch // 2)
            steppers.clear()
            torch.cuda.empty_cache()
        else:
            return case, steppers


OPTIMIZERS = {"muon": "Muon", "adamw": "AdamW"}


def ours(case: Case, optimizer: str, device: torch.device) -> Callable[[], object]:
    torch.manual_seed(0)
    vocab_size = case.vocab_size // 64 * 64
    shape = {"dim": case.dim, "depth": case.depth, "heads": case.heads, "context": case.context}
    family = {"family": "gpt2"} if device.type == "cuda" else {}
    model = Decoder(ModelConfig(vocab_size=vocab_size, **shape, **family)).to(device)
    if device.type == "cuda":
        model.model.compile()
    windows = Batch.of_windows(torch.randint(0, vocab_size, (case.batch, case.context + 1), device=device))
    settings = StepSettings(10**9, case.batch, 1.0, pick_dtype(device), lambda step: 0.01)
    optimizers = Optimizers(model, OptimizerConfig(name=optimizer))
    reports = train_steps(model, next_token_loss, lambda: windows, optimizers, settings)
    return lambda: next(reports)


def theirs(case: Case, device: torch.device) -> Callable[[], object]:
    torch.manual_seed(0)
    model = plain_gpt2.build(case.vocab_size, case.dim, case.depth, case.heads, case.context).to(device)
    windows = torch.randint(0, case.vocab_size, (case.batch, case.context + 1), device=device)
    fast = device.type == "cuda"
    optimizer = plain_gpt2.adamw(model, fused=fast)
    if fast:
        model.compile()
    return lambda: plain_gpt2.step(model, optimizer, windows, torch.bfloat16 if fast else torch.float32)


def shares(rates: dict[str, float], case: Case, gpu: str) -> dict[str, object]:
    """The GPU's name, and what share of its peak each contender reaches."""
    peak = next((1e12 * tera for name, tera in PEAKS.items() if name in gpu), None)
    config = ModelConfig(family="gpt2", dim=case.dim, depth=case.depth, heads=case.heads, context=case.context)
    per_token = operations(config.model_copy(update={"vocab_size": case.vocab_size}))
    return {
        "device": gpu,
        "share_of_peak": {who: rate * per_token / peak for who, rate in rates.items()} if peak else {},
    }


if __name__ == "__main__":
    main()
