"""The models that the planner's law is fitted on: train those that have no figures yet.

    python benchmarks/scaling.py run --data FOLDER [--text NAME=PATH ...] [--minutes 12] [--processes 2]
    python benchmarks/scaling.py take [planner_runs.json]
    python benchmarks/scaling_fit.py

`scaling_runs.json` has the models under `runs`: settings (the fields of `Spec`) and figures. `run` trains each model
that has only settings, and stores its figures as soon as they are there, so it can be stopped at any time; `--minutes`
bounds the whole. To add a model, add its settings to the file; to measure one again, delete its figures. FOLDER holds
`shakespeare/input.txt` and `stories/train.jsonl`; the third text is the Python standard library. Models of other texts,
given by `--text`, take no part in the fit: they show how far off the law is for kinds of text that it has not seen.
`take` adds the planned runs of `planner.py`, the larger ones: take them before they are made anew, as a plan is not to
be judged by a run that its law was fitted on.
"""

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness import HERE, parser
from tinyslm.core.config import build_config, merge
from tinyslm.core.files import write_json
from tinyslm.data.config import DataConfig
from tinyslm.data.loader import Loader
from tinyslm.data.prepare import prepare
from tinyslm.data.shards import Shards
from tinyslm.data.standard_library import standard_library
from tinyslm.evaluation.loss import document_losses
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.model.decoder import new_model
from tinyslm.planning.rates import rates
from tinyslm.planning.survey import survey_text
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.training.config import RunConfig
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.schedule import lr_scale
from tinyslm.training.stage import Batch
from tinyslm.training.stages.pretrain import next_token_loss
from tinyslm.training.validation import spread_documents

RUNS = HERE / "scaling_runs.json"
SCORED_BYTES = 2_000_000
TEXTS = ("shakespeare", "stories", "python")
MEASURES = {"training_bytes", "xz_bits", "context_bits", "probe_bits", "probed_bytes"}
PIECE = 2048  # tokens of the pieces that a part of a text is made of
BYTE = 320  # the vocabulary of a token for each byte


@dataclass(frozen=True)
class Spec:
    """One model to train. train_bytes: how much of the training text is used (0: all)."""

    text: str
    vocab: int
    dim: int
    depth: int
    tokens: int
    context: int = 256
    batch: int = 8
    train_bytes: int = 0
    muon_scale: float = 1.0
    lr_scale: float = 1.0
    seed: int = 1
    untied: bool = False

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Spec":
        """The settings among a model's settings and figures."""
        return cls(**{field.name: row[field.name] for field in fields(cls) if field.name in row})


def main() -> None:
    options = parser(__doc__)
    verbs = options.add_subparsers(required=True)
    training = verbs.add_parser("run")
    training.add_argument("--data", required=True, type=Path)
    training.add_argument("--text", action="append", default=[], metavar="NAME=PATH", help="a further text")
    training.add_argument("--minutes", type=float, default=math.inf)
    training.add_argument("--processes", type=int, default=torch.get_num_threads())
    training.set_defaults(work=run)
    taking = verbs.add_parser("take")
    taking.add_argument("planned", type=Path, nargs="?", default=HERE / "planner_runs.json")
    taking.set_defaults(work=take)
    arguments = options.parse_args()
    arguments.work(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Train what is missing, some models at a time, each in a process and with a thread of its own."""
    stored = json.loads(RUNS.read_text())
    deadline = time.monotonic() + 60 * arguments.minutes
    paths = {"shakespeare": [str(arguments.data / "shakespeare/input.txt")], "python": standard_library()}
    paths |= {"stories": [str(arguments.data / "stories/train.jsonl")]}
    paths |= {name: [path] for name, path in (one.split("=", 1) for one in arguments.text)}
    missing = [key for key, row in stored["runs"].items() if "bits_per_byte" not in row and row["text"] in paths]
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as work,
        ProcessPoolExecutor(arguments.processes, spawn, torch.set_num_threads, (1,)) as pool,
    ):
        for text in {stored["runs"][key]["text"] for key in missing}:
            if MEASURES - {*stored["texts"].get(text, {})}:
                survey = survey_text(paths[text], DataConfig(workers=1))
                stored["texts"][text] = survey.model_dump(include=MEASURES)
        running: dict[Future[dict[str, Any]], str] = {}
        while missing or running:
            while missing and len(running) < arguments.processes and time.monotonic() < deadline:
                key = missing.pop(0)
                spec = Spec.of(stored["runs"][key])
                running[pool.submit(train_one, spec, prepared(paths[spec.text], spec, Path(work)))] = key
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                key, found = running.pop(done), done.result()
                stored["runs"][key] = found
                write_json(RUNS, stored)
                print(f"{found['bits_per_byte']:.4f}  {found['seconds']:6.1f} s  {key}", flush=True)


def prepared(paths: list[str], spec: Spec, work: Path) -> Path:
    """The shards of a text in the vocabulary of a model, made the first time."""
    tokenizer = TokenizerConfig(kind="byte") if spec.vocab == BYTE else TokenizerConfig(vocab_size=spec.vocab)
    folder = work / f"{spec.text}-{spec.vocab}"
    return prepare(paths, folder, tokenizer=tokenizer, config=DataConfig(workers=1)).folder


def train_one(spec: Spec, folder: Path) -> dict[str, Any]:
    """Train and score one model on the shards in a folder."""
    device, shards = pick_device(), Shards.open(folder)
    train, valid = shards.split("train"), shards.split("valid")
    bytes_per_token = train.utf8_bytes / train.tokens
    unique = min(train.tokens, int(spec.train_bytes / bytes_per_token)) if spec.train_bytes else train.tokens
    per_update = spec.batch * spec.context
    steps = max(1, round(spec.tokens / per_update))
    chosen = rates(spec.dim, per_update, steps, spec.tokens / unique)  # with full dropout where text is short
    shape = {"vocab_size": shards.tokenizer.vocab_size, "dim": spec.dim, "depth": spec.depth, "context": spec.context}
    shape["tied"] = not spec.untied
    scaled = {
        "muon_lr": chosen["optimizer"]["muon_lr"] * spec.muon_scale,
        "lr": chosen["optimizer"]["lr"] * spec.lr_scale,
    }
    config = build_config(RunConfig, merge(chosen, {"model": shape, "optimizer": scaled}))
    dtype = pick_dtype(device)
    torch.manual_seed(spec.seed)
    model = new_model(config.model).to(device)
    optimizers = Optimizers(model, config.optimizer)
    used = _Part(train, unique) if spec.train_bytes else train
    loader = Loader(used, context=spec.context, batch=spec.batch, seed=spec.seed)
    settings = StepSettings(
        steps=steps,
        micro_batch=spec.batch,
        clip=config.optimizer.clip,
        dtype=dtype,
        lr_scale=lambda step: lr_scale((step + 0.5) / steps, config.schedule),
    )

    def next_batch() -> Batch:
        return Batch.of_windows(torch.from_numpy(loader.next()).to(device))

    begun, before = time.monotonic(), time.process_time()
    for _ in train_steps(model, next_token_loss, next_batch, optimizers, settings):
        pass
    seconds, processor = time.monotonic() - begun, time.process_time() - before
    documents = spread_documents(valid, max(1, int(SCORED_BYTES * valid.tokens / valid.utf8_bytes)))
    score = document_losses(model, documents, end_id=shards.tokenizer.eos_id, dtype=dtype).score()
    return {
        **asdict(spec),
        "bits_per_byte": round(score.bits_per_byte, 5),
        "steps": steps,
        "parameters": config.model.parameters,
        "table_parameters": config.model.vocab_size * config.model.dim * (2 if spec.untied else 1),
        "bytes_seen": int(steps * per_update * bytes_per_token),
        "unique_bytes": int(unique * bytes_per_token),
        "bytes_per_token": round(bytes_per_token, 4),
        "held_out_bytes_per_token": round(valid.utf8_bytes / valid.tokens, 4),
        "dropout": config.model.dropout,
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor, 2),
        "scored_bytes": score.utf8_bytes,
    }


class _Part:
    """A part of a split, in pieces spread evenly over it, for a loader. (Its beginning alone could be of one kind.)"""

    def __init__(self, split: Any, tokens: int) -> None:
        self.name, self.tokens = split.name, tokens
        pieces = max(1, min(tokens, split.tokens) // PIECE)
        length = tokens // pieces + 1
        starts = [number * (split.tokens - length) // pieces for number in range(pieces)]
        self._tokens = np.concatenate([split.slice(max(0, start), length) for start in starts])[:tokens]

    def slice(self, start: int, length: int) -> NDArray[Any]:
        """`[length]` tokens from `start` on."""
        return self._tokens[start : start + length]


def take(arguments: argparse.Namespace) -> None:
    """Add planned runs to those that the law is fitted on."""
    stored = json.loads(RUNS.read_text())
    planned = json.loads(arguments.planned.read_text()).get("runs", {}).values()
    for found in (row for row in planned if "failed" not in row):
        run = _as_run(found, stored["texts"][found["text"]])
        key = " ".join(f"{name}={value}" for name, value in asdict(Spec.of(run)).items())
        stored["runs"][key] = run
        print(f"{run['bits_per_byte']:.4f}  {key}")
    write_json(RUNS, stored)


def _as_run(found: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    """A planned run in the form of the others."""
    shape = found["shape"]
    spec = Spec(
        found["text"],
        *(shape[name] for name in ("vocab_size", "dim", "depth")),
        tokens=found["tokens"],
        context=shape["context"],
        batch=shape["batch"],
        untied=True,
    )
    return {
        **asdict(spec),
        "bits_per_byte": round(found["bits_per_byte"], 5),
        "steps": found["tokens"] // (spec.batch * spec.context),
        "parameters": found["parameters"],
        "table_parameters": 2 * spec.vocab * spec.dim,
        "bytes_seen": int(found["tokens"] * found["bytes_per_token"]),
        "unique_bytes": text["training_bytes"],
        **{name: found[name] for name in ("bytes_per_token", "held_out_bytes_per_token", "seconds")},
        "dropout": shape["dropout"],
        "scored_bytes": SCORED_BYTES,
        "planned": True,
    }


if __name__ == "__main__":
    main()
