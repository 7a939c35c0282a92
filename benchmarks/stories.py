"""Stories: bits per byte after five minutes of training, compared with plain loops over transformers' GPT-2.

    python benchmarks/stories.py --data FOLDER_WITH_train.jsonl_AND_valid.jsonl [--minutes 5] [--runs FILE]
    python benchmarks/stories.py --data FOLDER --only "tinyslm" "GPT-2 3M, bf16"

All read the same shards (byte-level BPE of 4,096, made beforehand). The peers are GPT-2 in three sizes, in fp32 and by
autocast in bf16 (`plain_gpt2.py`), each with the batch and the learning rate that suit its size best. Ours is planned.
Each trains in a process of its own, and ours has its turn between the peers.

The time counts from before the model is built. For ours it is that of the whole run: the plan, measuring its pace,
its validations (which choose the best weights), checkpoints, its own final score (on few tokens here) and the report;
for the peers it is that of their updates. Not counted for anyone: importing libraries, and scoring the points of the
curve on a small fixed part of the validation text, while the clock stands still. At the end the same code scores
everyone on all documents of valid.jsonl, in fp32.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

import plain_gpt2
from harness import Finished, finish, in_process, parser
from tinyslm import Shards, load_model, prepare_data
from tinyslm.data.config import DataConfig
from tinyslm.data.loader import Loader
from tinyslm.evaluation.loss import document_losses
from tinyslm.model.decoder import Decoder
from tinyslm.planning.choice import Budget
from tinyslm.planning.cost import SECONDS
from tinyslm.planning.planner import Planner
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.training import pipeline
from tinyslm.training.compiling import uncompiled
from tinyslm.training.run import Run
from tinyslm.training.validation import spread_documents


@dataclass(frozen=True)
class Peer:
    """A GPT-2 and how it is trained. lr: the peak."""

    dim: int
    depth: int
    heads: int
    context: int
    batch: int
    lr: float


PEERS = {
    "1M": Peer(dim=128, depth=4, heads=4, context=256, batch=8, lr=3e-3),
    "3M": Peer(dim=192, depth=5, heads=6, context=256, batch=8, lr=2e-3),
    "10M": Peer(dim=384, depth=5, heads=6, context=256, batch=4, lr=1e-3),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CONTENDERS = {f"GPT-2 {size}, {dtype}": (size, dtype) for size in PEERS for dtype in DTYPES}
ORDER = [*list(CONTENDERS)[:3], "tinyslm", *list(CONTENDERS)[3:]]
CURVE_TOKENS = 16_384
CURVE = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""When a point of the curve is scored, in shares of the time; and at the end."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--data", required=True, type=Path)
    options.add_argument("--minutes", type=float, default=5.0)
    options.add_argument("--only", nargs="+", choices=ORDER, default=ORDER)
    options.add_argument("--runs", type=Path, help="a JSON file of finished runs, to resume from")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as work:
        finished = Finished(arguments.runs or Path(work) / "runs.json")
        shards = prepare_data(
            [str(arguments.data / "train.jsonl")],
            Path(work) / "shards",
            tokenizer=TokenizerConfig(vocab_size=4096),
            config=DataConfig(valid_paths=(str(arguments.data / "valid.jsonl"),)),
        )
        found = []
        for name in arguments.only:
            contender = (name, str(shards.folder), arguments.minutes)
            found.append(
                finished.once(
                    f"{arguments.minutes:g} minutes", name, lambda c=contender: in_process("stories.train", *c)
                )
            )
            print({key: value for key, value in found[-1].items() if key != "curve"}, flush=True)
    found.sort(key=lambda one: one["bits_per_byte"])
    peers = {size: asdict(peer) for size, peer in PEERS.items()}
    finish({"minutes": arguments.minutes, "peers": peers, "fewer": fewer(found), "contenders": found})


def fewer(found: Sequence[dict]) -> dict[str, dict]:
    """What share fewer bits per byte ours needs than the best peer of each number format; found: the best first."""
    shares = {}
    for ours in (one for one in found if not one["size"]):
        for dtype in DTYPES:
            if best := next((one for one in found if one["size"] and one["dtype"] == dtype), None):
                shares[dtype] = {"peer": best["name"], "share": 1 - ours["bits_per_byte"] / best["bits_per_byte"]}
    return shares


def train(name: str, folder: str, minutes: float) -> dict:
    """Train one contender on the shards in a folder, and score it."""
    shards, clock = Shards.open(Path(folder)), Clock()
    curve = Curve(shards, clock, 60 * minutes)
    size, dtype = CONTENDERS.get(name, ("", ""))
    with tempfile.TemporaryDirectory() as work:
        if size:
            found, model = theirs(PEERS[size], dtype, curve, Path(work))
        else:
            found, model = ours(curve, minutes, Path(work))
        valid = shards.split("valid")
        score = document_losses(model, spread_documents(valid, valid.tokens), end_id=shards.tokenizer.eos_id).score()
    names = ("bits_per_byte", "low", "high", "documents", "utf8_bytes")
    scores = {key: value for key, value in asdict(score).items() if key in names}
    points = {"seconds": curve.points[-1][0], "curve": curve.points}
    return {"name": name, "size": size, "dtype": dtype, **found, **points, **scores}


class Clock:
    """Called, it gives the seconds since it was made, without those in which it stood still."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - self._begun

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        stopped = time.monotonic()
        yield
        self._begun += time.monotonic() - stopped


class Curve:
    """Bits per byte on a small part of the validation text at the times of `CURVE`, as points (seconds, bits)."""

    def __init__(self, shards: Shards, clock: Clock, seconds: float) -> None:
        self.points: list[list[float]] = []
        self.shards, self.clock, self.seconds = shards, clock, seconds
        self._documents = list(spread_documents(shards.split("valid"), CURVE_TOKENS))
        self._due = [share * seconds for share in CURVE]

    def score(self, model: Callable[[], Decoder], *, last: bool = False) -> None:
        """Score the model if a point is due, or the last time; the clock stands still meanwhile."""
        now = self.clock()
        if not last and (not self._due or now < self._due[0]):
            return
        self.points = [point for point in self.points if point[0] < round(now, 2)]
        with self.clock.standing_still(), uncompiled():
            score = document_losses(model(), self._documents, end_id=self.shards.tokenizer.eos_id).score()
        self.points.append([round(now, 2), round(score.bits_per_byte, 4)])
        self._due = [time for time in self._due if time > now]


def ours(curve: Curve, minutes: float, work: Path) -> tuple[dict, Decoder]:
    """A whole run of tinyslm, planned as `tinyslm train SHARDS --minutes N` plans it."""
    data = curve.shards.folder
    fixed = {"train": {"minutes": minutes, "steps": 0, "seed": 1, "score_tokens": CURVE_TOKENS}}
    planner = Planner.look([str(data)], fixed, seconds=min(SECONDS, 0.03 * 60 * minutes))
    plan = planner.plan(Budget(minutes=minutes))
    rates = planner.costs.rates(plan.settings)
    run = Run.start(work / "run", data, plan.settings, rates=rates, spent=curve.clock(), clock=curve.clock)
    pipeline.finish(run, lambda event: curve.score(lambda: run.model) if event["event"] == "step" else None)
    curve.score(lambda: run.model, last=True)
    model, batch = run.config.model, run.config.train.batch
    shape = {"dim": model.dim, "depth": model.depth, "context": model.context, "batch": batch}
    found = {"parameters": model.parameters, "dtype": str(run.dtype).removeprefix("torch."), "shape": shape}
    return {**found, "steps": run.steps, "tokens": run.progress.tokens}, load_model(work / "run" / "model")


def theirs(peer: Peer, dtype: str, curve: Curve, work: Path) -> tuple[dict, Decoder]:
    """A plain loop over a GPT-2."""
    torch.manual_seed(1)
    tokenizer = curve.shards.tokenizer
    model = plain_gpt2.build(tokenizer.vocab_size, peer.dim, peer.depth, peer.heads, peer.context)
    loader = Loader(curve.shards.split("train"), context=peer.context, batch=peer.batch, seed=1)

    def as_decoder() -> Decoder:
        model.save_pretrained(work)
        tokenizer.save(work)
        return load_model(work)

    def next_batch() -> Tensor:
        return torch.from_numpy(loader.next())

    steps, left, clock = 0, curve.seconds - curve.clock(), curve.clock
    for _ in plain_gpt2.train_for(model, next_batch, left, lr=peer.lr, dtype=DTYPES[dtype], clock=clock):
        steps += 1
        curve.score(as_decoder)
    curve.score(as_decoder, last=True)
    shape = {"dim": peer.dim, "depth": peer.depth, "context": peer.context, "batch": peer.batch}
    found = {"parameters": model.num_parameters(), "dtype": dtype, "shape": shape, "lr": peer.lr}
    return {**found, "steps": steps, "tokens": steps * peer.batch * peer.context}, as_decoder()


if __name__ == "__main__":
    main()
