"""Stories: bits per byte after five minutes of training, beside plain loops over transformers' GPT-2.

    python benchmarks/stories.py --data FOLDER_WITH_train.jsonl_AND_valid.jsonl [--minutes 5] [--keep FILE]
    python benchmarks/stories.py --data FOLDER --only "tinyslm" "GPT-2 3M, bf16"
    python benchmarks/stories.py --data FOLDER --tune --minutes 1 --keep FILE     what settings suit the peers

All read the same shards (byte-level BPE of 4,096, made beforehand). The peers are GPT-2 in three sizes, in fp32 and by
autocast in bf16 (`plain_gpt2.py`), each with a batch and a learning rate for its size. Ours is planned. Each trains in
a process of its own; with several `--seeds` for ours, its runs lie between those of the peers.

The time is counted from before the model is built. For ours it is that of the whole run: the plan, the trial of its
pace, its validations (which choose the weights to keep), checkpoints, its own final score (on few tokens here) and the
report; for the peers it is that of their updates. Not counted for anyone: importing libraries, and the looks from which
the curve is made, on a small fixed part of the validation text, while the clock stands still. At the end the same code
scores everyone on all documents of valid.jsonl, in fp32. The last line printed is the result as JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import plain_gpt2
from tinyslm import Shards, load_model, prepare_data
from tinyslm.core.files import write_json
from tinyslm.data.config import DataConfig
from tinyslm.data.loader import Loader
from tinyslm.data.shards import is_shards
from tinyslm.evaluation.loss import score_documents
from tinyslm.model.decoder import Decoder
from tinyslm.planning.choice import Budget
from tinyslm.planning.cost import SECONDS
from tinyslm.planning.planner import Planner
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.training.compiling import uncompiled
from tinyslm.training.config import RunConfig
from tinyslm.training.pipeline import finish
from tinyslm.training.run import Run
from tinyslm.training.validation import spread_documents

PEERS = {
    "1M": plain_gpt2.Settings(dim=128, depth=4, heads=4, context=256, batch=8, lr=3e-3),
    "3M": plain_gpt2.Settings(dim=192, depth=5, heads=6, context=256, batch=8, lr=2e-3),
    "10M": plain_gpt2.Settings(dim=384, depth=5, heads=6, context=256, batch=4, lr=1e-3),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LOOKED_TOKENS = 16_384
LOOKS = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""When the validation text is looked at, in shares of the time; and at the end."""
TUNED_BATCHES, TUNED_RATES = (4, 8, 16), (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Contender:
    """Who trains. size: of the peer; "": ours, which takes what else it needs from a plan."""

    name: str
    size: str = ""
    dtype: str = ""
    seed: int = 1
    batch: int = 0
    lr: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of ours")
    parser.add_argument("--tune", action="store_true", help="try other batches and learning rates for the peers")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="just these contenders")
    parser.add_argument("--keep", type=Path, help="a JSON file of those that are finished, to go on with")
    parser.add_argument("--shards", type=Path, help="where to keep the shards (else they are made each time)")
    parser.add_argument("--alone", help="train this contender (as JSON) in this process")
    arguments = parser.parse_args()
    if arguments.alone:
        one = Contender(**json.loads(arguments.alone))
        print(json.dumps(measure(one, Shards.open(arguments.shards), arguments.minutes)))
        return
    chosen = list(tuning() if arguments.tune else contenders(arguments.seeds))
    if unknown := set(arguments.only or ()) - {one.name for one in chosen}:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {[one.name for one in chosen]}")
    wanted = [one for one in chosen if not arguments.only or one.name in arguments.only]
    peers = {size: asdict(peer) for size, peer in PEERS.items()}
    conditions = {"minutes": arguments.minutes, "peers": peers}
    with tempfile.TemporaryDirectory() as work:
        shards = made(arguments.shards or Path(work) / "shards", arguments.data)
        found = trained(wanted, conditions, shards, arguments.keep)
    found.sort(key=lambda one: [one["bits_per_byte"], one["name"]])
    print(json.dumps({**conditions, "looked_tokens": LOOKED_TOKENS, "fewer": fewer(found), "contenders": found}))


def contenders(seeds: Sequence[int]) -> Iterator[Contender]:
    """The peers, with ours spread evenly between them."""
    peers = [Contender(f"GPT-2 {size}, {dtype}", size, dtype) for size in PEERS for dtype in DTYPES]
    places = [(number + 1) * len(peers) // (len(seeds) + 1) for number in range(len(seeds))]
    for place in range(len(peers) + 1):
        for number, seed in enumerate(seeds):
            if places[number] == place:
                yield Contender("tinyslm" if seed == 1 else f"tinyslm, seed {seed}", seed=seed)
        yield from peers[place : place + 1]


def tuning() -> Iterator[Contender]:
    """The peers in fp32 with other batches and learning rates."""
    for size, peer in PEERS.items():
        for batch in TUNED_BATCHES:
            for lr in (factor * peer.lr for factor in TUNED_RATES):
                yield Contender(f"GPT-2 {size}, fp32, batch {batch}, lr {lr:g}", size, "fp32", batch=batch, lr=lr)


def made(folder: Path, data: Path) -> Shards:
    """The shards, from before or made now."""
    if is_shards(folder):
        return Shards.open(folder)
    config = DataConfig(valid_paths=(str(data / "valid.jsonl"),))
    return prepare_data([str(data / "train.jsonl")], folder, tokenizer=TokenizerConfig(vocab_size=4096), config=config)


def trained(wanted: Sequence[Contender], conditions: dict, shards: Shards, keep: Path | None) -> list[dict]:
    """What comes of each contender, one after the other; those in the file `keep` are not trained again."""
    kept = {"conditions": conditions, "contenders": []}
    if keep and keep.is_file():
        kept = json.loads(keep.read_text())
        if kept["conditions"] != conditions:
            other = [name for name in conditions if conditions[name] != kept["conditions"].get(name)]
            sys.exit(f"{keep} was made with other settings ({', '.join(other)}): give another --keep FILE.")
    for one in wanted:
        if one.name in [each["name"] for each in kept["contenders"]]:
            continue
        command = [sys.executable, __file__, "--data", ".", "--alone", json.dumps(asdict(one))]
        command += ["--shards", str(shards.folder), "--minutes", str(conditions["minutes"])]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(out.splitlines()[-1])
        kept["contenders"].append(found)
        if keep:
            write_json(keep, kept)
        print(
            f"{one.name}: {found['bits_per_byte']:.4f} bits per byte ({found['low']:.4f} to {found['high']:.4f}), "
            f"{found['parameters'] / 1e6:.2f}M parameters, {found['steps']} steps in {found['seconds']:.0f} s",
            flush=True,
        )
    return kept["contenders"]


def fewer(found: Sequence[dict]) -> dict[str, dict]:
    """What share fewer bits per byte ours needs (on average over its seeds) than the best peer of each type."""
    ours = [one["bits_per_byte"] for one in found if not one["size"]]
    shares = {}
    for dtype in DTYPES:
        peers = [one for one in found if one["size"] and one["dtype"] == dtype]
        if ours and peers:
            best = min(peers, key=lambda one: one["bits_per_byte"])
            shares[dtype] = {"peer": best["name"], "share": 1 - sum(ours) / len(ours) / best["bits_per_byte"]}
    return shares


def measure(one: Contender, shards: Shards, minutes: float) -> dict:
    """Train one contender in this process, and score it."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        found = theirs(one, shards, 60 * minutes, work) if one.size else ours(one, shards, minutes, work)
    return {"name": one.name, "size": one.size, "seed": one.seed, **found}


class Stopwatch:
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
    """Bits per byte on a small part of the validation text at the times of `LOOKS`, as points (seconds, bits)."""

    def __init__(self, shards: Shards, watch: Stopwatch, seconds: float) -> None:
        self.points: list[list[float]] = []
        self._watch, self._end_id = watch, shards.tokenizer.eos_id
        self._documents = list(spread_documents(shards.split("valid"), LOOKED_TOKENS))
        self._due = [share * seconds for share in LOOKS]

    def look(self, model: Callable[[], Decoder], *, last: bool = False) -> None:
        """Look at the model if it is time to, or the last time; the clock stands still meanwhile."""
        now = self._watch()
        if not last and (not self._due or now < self._due[0]):
            return
        self.points = [point for point in self.points if point[0] < round(now, 2)]
        with self._watch.standing_still(), uncompiled():
            score = score_documents(model(), self._documents, end_id=self._end_id)
        self.points.append([round(now, 2), round(score.bits_per_byte, 4)])
        self._due = [time for time in self._due if time > now]


def ours(one: Contender, shards: Shards, minutes: float, work: Path) -> dict:
    """A whole run of tinyslm as it is planned."""
    watch = Stopwatch()
    curve = Curve(shards, watch, 60 * minutes)
    fixed = {"train": {"minutes": minutes, "steps": 0, "seed": one.seed, "score_tokens": LOOKED_TOKENS}}
    config = plan(shards, minutes, fixed)
    run = Run.start(work / "run", shards.folder, config, spent=watch(), clock=watch)
    finish(run, lambda event: curve.look(lambda: run.model) if event["event"] == "step" else None)
    curve.look(lambda: run.model, last=True)
    model = run.config.model
    return {
        **{"parameters": model.parameters, "dtype": str(run.dtype).removeprefix("torch."), "steps": run.steps},
        **{"tokens": run.progress.tokens, "seconds": curve.points[-1][0], "curve": curve.points},
        "shape": {"dim": model.dim, "depth": model.depth, "context": model.context, "batch": run.config.train.batch},
        **score(load_model(work / "run" / "model"), shards),
    }


def plan(shards: Shards, minutes: float, fixed: dict) -> RunConfig:
    """The planner's settings, made as `tinyslm train SHARDS --minutes N` makes them."""
    planner = Planner.look([str(shards.folder)], fixed, seconds=min(SECONDS, 0.03 * 60 * minutes))
    return planner.plan(Budget(minutes=minutes)).settings


def theirs(one: Contender, shards: Shards, seconds: float, work: Path) -> dict:
    """A plain loop over a GPT-2."""
    peer = PEERS[one.size]
    peer = replace(peer, batch=one.batch or peer.batch, lr=one.lr or peer.lr)
    torch.manual_seed(one.seed)
    watch = Stopwatch()
    curve = Curve(shards, watch, seconds)
    model = plain_gpt2.build(shards.tokenizer.vocab_size, peer.dim, peer.depth, peer.heads, peer.context)
    loader = Loader(shards.split("train"), context=peer.context, batch=peer.batch, seed=one.seed)

    def as_decoder() -> Decoder:
        model.save_pretrained(work)
        shards.tokenizer.save(work)
        return load_model(work)

    def next_batch() -> Tensor:
        return torch.from_numpy(loader.next())

    steps, left, dtype = 0, seconds - watch(), DTYPES[one.dtype]
    for _ in plain_gpt2.train_for(model, next_batch, left, lr=peer.lr, dtype=dtype, clock=watch):
        steps += 1
        curve.look(as_decoder)
    curve.look(as_decoder, last=True)
    return {
        **{"parameters": model.num_parameters(), "dtype": one.dtype, "steps": steps},
        **{"tokens": steps * peer.batch * peer.context, "seconds": curve.points[-1][0], "curve": curve.points},
        "shape": {"dim": peer.dim, "depth": peer.depth, "context": peer.context, "batch": peer.batch},
        **{"lr": peer.lr, **score(as_decoder(), shards)},
    }


def score(model: Decoder, shards: Shards) -> dict:
    """The final score, on all validation documents."""
    valid = shards.split("valid")
    found = asdict(score_documents(model, spread_documents(valid, valid.tokens), end_id=shards.tokenizer.eos_id))
    return {name: found[name] for name in ("bits_per_byte", "low", "high", "documents", "utf8_bytes")}


if __name__ == "__main__":
    main()
