"""Whole training steps, optimizer included: ours compared with a plain loop over transformers' GPT-2 of the same shape.

    python benchmarks/throughput.py      10.65M parameters; the peer computes in fp32

All train on the same random tokens and alternate in one process. Ours runs twice: with the default optimizer (Muon) and
with AdamW, which the peer uses. `gpu.py` does this on a GPU.
"""

import time
from collections.abc import Callable

import torch

import plain_gpt2
from harness import alternate, compare, finish, parser
from tinyslm import Decoder, ModelConfig
from tinyslm.hardware.device import pick_dtype
from tinyslm.training.config import OptimizerConfig
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.stage import Batch
from tinyslm.training.stages.pretrain import next_token_loss

SHAPE = {"dim": 384, "depth": 6, "heads": 6, "context": 256}
BATCH, VOCAB_SIZE = 16, 65
"""The peer's vocabulary; ours is rounded down to a multiple of 64."""
PEER = "transformers GPT-2, fp32"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=4, help="steps of each in one round")
    arguments = options.parse_args()
    steppers = {"tinyslm, Muon": ours("muon"), "tinyslm, AdamW": ours("adamw"), PEER: theirs()}

    def rate(step: Callable[[], object]) -> float:
        start = time.perf_counter()
        for _ in range(arguments.steps):
            step()
        return arguments.steps * BATCH * SHAPE["context"] / (time.perf_counter() - start)

    ways = {name: lambda _, step=step: rate(step) for name, step in steppers.items()}
    shape = {**SHAPE, "vocab_size": VOCAB_SIZE, "batch": BATCH}
    finish({**shape, **compare(alternate(ways, range(arguments.rounds + 1)), PEER)})


def ours(optimizer: str) -> Callable[[], object]:
    torch.manual_seed(0)
    vocab_size = VOCAB_SIZE // 64 * 64
    model = Decoder(ModelConfig(vocab_size=vocab_size, **SHAPE))
    windows = Batch.of_windows(torch.randint(0, vocab_size, (BATCH, SHAPE["context"] + 1)))
    settings = StepSettings(10**9, BATCH, 1.0, pick_dtype(torch.device("cpu")), lambda step: 0.01)
    reports = train_steps(
        model, next_token_loss, lambda: windows, Optimizers(model, OptimizerConfig(name=optimizer)), settings
    )
    return lambda: next(reports)


def theirs() -> Callable[[], object]:
    torch.manual_seed(0)
    model = plain_gpt2.build(VOCAB_SIZE, SHAPE["dim"], SHAPE["depth"], SHAPE["heads"], SHAPE["context"])
    windows = torch.randint(0, VOCAB_SIZE, (BATCH, SHAPE["context"] + 1))
    optimizer = plain_gpt2.adamw(model)
    return lambda: plain_gpt2.step(model, optimizer, windows)


if __name__ == "__main__":
    main()
