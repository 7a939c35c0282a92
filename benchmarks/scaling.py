"""The law that the planner predicts with: train small models, and fit it to them.

    python benchmarks/scaling.py run --data FOLDER [--text NAME=PATH ...] [--minutes 12] [--processes 2]
    python benchmarks/scaling.py take [planner_runs.json]
    python benchmarks/scaling.py fit

`run` trains each model of the grid that is not yet in `scaling_runs.json` and adds it there as soon as it is done, so
it can be stopped at any time; `--minutes` bounds the whole. FOLDER holds `shakespeare/input.txt` and
`stories/train.jsonl`; the third text is the Python standard library. With `--text`, it trains only the few models of
`_further`, on other texts, which take no part in the fit: they show how far off it is for kinds of text that it has
not seen. `take` adds the planned runs of `planner.py`, the larger ones: take them before they are made anew, as a plan
is not to be judged by a run that its law was fitted on. `fit` needs no text: it writes the coefficients to
`src/tinyslm/training/planning/law.json` and prints how well they fit, also for texts that took no part.
"""

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tinyslm.core.config import build_config, merge
from tinyslm.core.files import write_json
from tinyslm.data.config import DataConfig
from tinyslm.data.loader import Loader
from tinyslm.data.prepare import prepare
from tinyslm.data.shards import Shards
from tinyslm.data.standard_library import standard_library
from tinyslm.evaluation.loss import score_documents
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.model.decoder import new_model
from tinyslm.planning.law import Coefficients, Conditions, predict
from tinyslm.planning.rates import rates
from tinyslm.planning.survey import BYTES_FOR_A_TOKEN, survey_text
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.training.config import RunConfig
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.schedule import lr_scale
from tinyslm.training.stages.pretrain import next_token_loss
from tinyslm.training.validation import spread_documents

RUNS = Path(__file__).parent / "scaling_runs.json"
PLANNED = RUNS.with_name("planner_runs.json")
LAW = Path(__file__).parents[1] / "src/tinyslm/training/planning/law.json"
SCORED_BYTES = 2_000_000
SAMPLE_BYTES = 250_000
"""Runs that were scored on no more validation text than this are carried over to all of it: some documents of a text
are harder than others. By what factor, is kept with the text for each vocabulary (`of_sample`)."""
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

    @property
    def name(self) -> str:
        """What tells it from all others."""
        fields = asdict(self)
        if not self.untied:  # most runs were made before there was a choice
            fields.pop("untied")
        return " ".join(f"{key}={value}" for key, value in fields.items())


def grid(further: Sequence[str] = ()) -> Iterator[Spec]:
    """The models to train: each of every text, so that a part of the grid is of all texts; or those of further ones."""
    if further:
        yield from _further(further)
        return
    main = {"shakespeare": BYTE, "stories": 2048, "python": 2048}
    yield from _deep()
    yield from _narrow()
    yield from _large_updates()
    yield from _untied()
    yield from _wide()
    yield from _planned()
    for kind in (_small, _others, _large):
        for same in zip(*(list(kind(text, vocab)) for text, vocab in main.items()), strict=True):
            yield from same


def _small(text: str, vocab: int) -> Iterator[Spec]:
    for dim, depth, millions in (
        (64, 2, (0.25, 1)),
        (128, 2, (0.25, 0.5, 2)),
        (128, 4, (0.5, 1, 3)),
        (192, 4, (0.5,)),
    ):
        for million in millions:
            yield Spec(text, vocab, dim, depth, int(million * 1e6))


def _others(text: str, vocab: int) -> Iterator[Spec]:
    """What else counts: depth, vocabularies, readings, batches, context, and chance."""
    yield Spec(text, vocab, 256, 2, 500_000)
    yield Spec(text, vocab, 128, 8, 500_000)
    for other in {BYTE: (1024, 2048)}.get(vocab, (BYTE, 4096)):
        yield Spec(text, other, 128, 4, 500_000)
        yield Spec(text, other, 128, 2, 2_000_000)
    bytes_per_token = 1 if vocab == BYTE else 3
    for epochs in (4, 16):
        yield Spec(text, vocab, 128, 4, 500_000, train_bytes=500_000 * bytes_per_token // epochs)
    for batch in (4, 16):
        yield Spec(text, vocab, 128, 4, 500_000, batch=batch)
    for context, batch in ((128, 16), (512, 4)):
        yield Spec(text, vocab, 128, 4, 500_000, context=context, batch=batch)
    yield Spec(text, vocab, 128, 4, 500_000, seed=2)


def _large(text: str, vocab: int) -> Iterator[Spec]:
    for dim, depth, tokens in (
        (128, 2, 5_000_000),
        (64, 2, 6_000_000),
        (256, 4, 500_000),
        (192, 4, 1_500_000),
        (256, 4, 1_000_000),
        (384, 6, 250_000),
        (128, 4, 6_000_000),
        (256, 4, 2_000_000),
    ):
        yield Spec(text, vocab, dim, depth, tokens)


def _planned() -> Iterator[Spec]:
    """Near what plans choose for one minute and for five."""
    for dim, depth, tokens, context in (
        (64, 2, 2_000_000, 256),
        (64, 2, 2_000_000, 128),
        (128, 2, 4_000_000, 256),
        (192, 2, 2_000_000, 128),
        (192, 4, 3_500_000, 256),
    ):
        for text, vocab in (("shakespeare", 1024), ("stories", 4096), ("python", 4096)):
            yield Spec(text, vocab, dim, depth, tokens, context=context, batch=2048 // context)


def _untied() -> Iterator[Spec]:
    """With a table of its own for the output, as is the default."""
    for dim, depth, tokens in ((64, 2, 1_000_000), (128, 4, 1_000_000), (192, 4, 2_000_000)):
        for text, vocab in (("shakespeare", 1024), ("stories", 4096), ("python", 4096)):
            yield Spec(text, vocab, dim, depth, tokens, untied=True)


def _wide() -> Iterator[Spec]:
    """What code needs: models that can copy, which the small ones learn late or never."""
    for dim, depth, tokens in ((192, 4, 1_000_000), (256, 4, 1_000_000), (256, 4, 2_000_000), (384, 4, 1_000_000)):
        for text in ("python", "stories"):
            yield Spec(text, 4096, dim, depth, tokens, untied=True)


def _large_updates() -> Iterator[Spec]:
    """With 4,096 and 8,192 tokens in an update: context times batch."""
    for dim, depth, tokens, context, batch in (
        (128, 2, 2_000_000, 128, 64),
        (64, 2, 3_000_000, 128, 64),
        (192, 2, 2_500_000, 256, 16),
        (192, 2, 2_500_000, 256, 32),
        (128, 6, 2_000_000, 512, 16),
        (128, 2, 1_000_000, 128, 32),
        (192, 3, 1_000_000, 128, 32),
    ):
        for text, vocab in (("shakespeare", 1024), ("stories", 4096), ("python", 4096)):
            yield Spec(text, vocab, dim, depth, tokens, context=context, batch=batch, untied=True)
    yield Spec("shakespeare", BYTE, 256, 3, 2_000_000, context=512, batch=8, untied=True)
    yield Spec("python", 2048, 192, 2, 5_000_000, context=256, batch=32, untied=True)
    yield Spec("stories", 4096, 128, 2, 8_000_000, context=128, batch=64, untied=True)
    yield Spec("python", 4096, 192, 2, 5_000_000, context=128, batch=64, untied=True)
    yield Spec("python", 2048, 128, 6, 4_000_000, context=512, batch=16, untied=True)
    yield Spec("python", 4096, 256, 3, 3_000_000, context=128, batch=64, untied=True)
    yield Spec("stories", 2048, 192, 3, 4_000_000, context=256, batch=32, untied=True)


def _deep() -> Iterator[Spec]:
    """Deeper than the law would choose: what is copied from further back is learned in more blocks."""
    for text, vocab, dim, depth, tokens, context, batch in (
        ("python", 2048, 128, 6, 4_000_000, 512, 4),
        ("python", 4096, 128, 6, 4_000_000, 256, 8),
        ("python", 4096, 128, 6, 4_000_000, 128, 32),
        ("python", 4096, 192, 4, 3_000_000, 256, 16),
        ("python", 4096, 192, 4, 3_000_000, 128, 32),
        ("shakespeare", 1024, 128, 6, 3_000_000, 512, 4),
        ("python", 2048, 128, 4, 4_000_000, 512, 8),
        ("stories", 4096, 128, 6, 3_000_000, 512, 4),
        ("stories", 4096, 128, 4, 4_000_000, 256, 16),
        ("shakespeare", 1024, 192, 4, 2_000_000, 512, 4),
    ):
        yield Spec(text, vocab, dim, depth, tokens, context=context, batch=batch, untied=True)


def _narrow() -> Iterator[Spec]:
    """Narrow models in more and in fewer blocks: how much of a model's worth is its width."""
    for dim, depth, tokens in ((64, 4, 2_000_000), (64, 3, 2_000_000), (128, 4, 1_500_000), (128, 3, 1_500_000)):
        for text in ("python", "stories"):
            yield Spec(text, 4096, dim, depth, tokens, context=128, batch=32, untied=True)
    yield Spec("shakespeare", 1024, 64, 4, 2_000_000, context=128, batch=16, untied=True)
    yield Spec("stories", 4096, 128, 3, 5_000_000, context=128, batch=64, untied=True)


def _further(texts: Sequence[str]) -> Iterator[Spec]:
    """A few models of the sizes that plans of a minute or two choose."""
    for dim, depth, tokens, context, batch in (
        (64, 2, 1_000_000, 256, 8),
        (128, 4, 500_000, 256, 8),
        (128, 2, 2_000_000, 128, 32),
        (128, 4, 1_500_000, 256, 16),
        (192, 2, 1_000_000, 256, 8),
    ):
        for text in texts:
            yield Spec(text, 1024, dim, depth, tokens, context=context, batch=batch, untied=True)


class Texts:
    """Shards of the texts, made when they are asked for. further: paths of other texts, by their names."""

    def __init__(self, data: Path, further: Mapping[str, str], work: Path) -> None:
        self._data, self._further, self._work = data, further, work

    def paths(self, name: str) -> list[str]:
        """Where a text lies."""
        if name in self._further:
            return [self._further[name]]
        files = {"shakespeare": "shakespeare/input.txt", "stories": "stories/train.jsonl"}
        return [str(self._data / files[name])] if name in files else standard_library()

    def shards(self, name: str, vocab: int) -> Shards:
        """The shards of a text in a vocabulary."""
        tokenizer = TokenizerConfig(kind="byte") if vocab == BYTE else TokenizerConfig(vocab_size=vocab)
        return prepare(
            self.paths(name), self._work / f"{name}-{vocab}", tokenizer=tokenizer, config=DataConfig(workers=1)
        )


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
    begun, before = time.monotonic(), time.process_time()
    for _ in train_steps(
        model, next_token_loss, lambda: torch.from_numpy(loader.next()).to(device), optimizers, settings
    ):
        pass
    seconds, processor = time.monotonic() - begun, time.process_time() - before
    documents = spread_documents(valid, max(1, int(SCORED_BYTES * valid.tokens / valid.utf8_bytes)))
    score = score_documents(model, documents, end_id=shards.tokenizer.eos_id, dtype=dtype)
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


def run(arguments: argparse.Namespace) -> None:
    """Train what is missing, some models at a time, each in a process and with a thread of its own."""
    kept = json.loads(RUNS.read_text()) if RUNS.is_file() else {"texts": {}, "runs": {}}
    deadline = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as work:
        further = dict(one.split("=", 1) for one in arguments.text)
        texts = Texts(arguments.data, further, arguments.work or Path(work))
        for name in further or TEXTS:
            if MEASURES - {*kept["texts"].get(name, {})}:
                found = survey_text(texts.paths(name), DataConfig(workers=1))
                kept["texts"][name] = found.model_dump(include=MEASURES)
                write_json(RUNS, kept)
        missing = iter([spec for spec in grid([*further]) if spec.name not in kept["runs"]])
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(arguments.processes, spawn, torch.set_num_threads, (1,)) as pool:
            running: dict[Future[dict[str, Any]], Spec] = {}
            while True:
                while (
                    len(running) < arguments.processes and time.monotonic() < deadline and (spec := next(missing, None))
                ):
                    running[pool.submit(train_one, spec, texts.shards(spec.text, spec.vocab).folder)] = spec
                if not running:
                    return
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    spec, found = running.pop(done), done.result()
                    kept["runs"][spec.name] = found
                    write_json(RUNS, kept)
                    print(f"{found['bits_per_byte']:.4f}  {found['seconds']:6.1f} s  {spec.name}", flush=True)


def take(arguments: argparse.Namespace) -> None:
    """Add planned runs to those that the law is fitted on."""
    kept = json.loads(RUNS.read_text())
    planned = json.loads(arguments.planned.read_text()).get("runs", {}).values()
    for found in (row for row in planned if "failed" not in row):
        run = _as_run(found, kept["texts"][found["text"]])
        spec = Spec(**{field.name: run[field.name] for field in fields(Spec)})
        kept["runs"][spec.name] = run
        print(f"{run['bits_per_byte']:.4f}  {spec.name}")
    write_json(RUNS, kept)


def _as_run(found: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    """A planned run, told like those of the grid."""
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


# The fit: least squares of relative errors by Levenberg and Marquardt's method. What is fitted are the logarithms of
# the coefficients, each held near a first guess as firmly as its spread says.
GUESS = {
    "lasting": (0.4, 0.7),
    "passing": (0.7, 0.5),
    "bend": (0.7, 0.7),
    "floor": (0.25, 0.7),
    "size": (0.1, 1.0),
    "size_power": (0.35, 0.3),
    "text": (0.4, 0.7),
    "text_power": (0.35, 0.3),
    "joining": (1.0, 0.4),
    "window": (0.3, 1.0),
    "window_power": (0.5, 0.3),
    "near": (1.0, 1.0),
    "near_power": (0.7, 0.3),
    "distant": (4.0, 1.0),
    "reach": (100.0, 1.0),
    "reach_power": (0.7, 0.5),
    "few_blocks": (3.0, 0.5),
    "narrow": (0.5, 0.5),
    "table_share": (0.4, 0.3),
    "output_share": (0.3, 0.7),
    "repeats": (2.0, 0.5),
    "rereading": (0.5, 0.5),
    "capacity": (5.0, 0.3),
    "critical_update": (8000.0, 1.0),
    "growth": (0.5, 0.7),
    "noisy_update": (300.0, 1.0),
    "noise": (2.0, 0.7),
    "token_power": (0.7, 0.5),
    "context_cost": (0.3, 0.7),
}
EXPECTED_SPREAD = 0.015
PLANNED_WEIGHT = 3.0
"""What the error of a planned run weighs: it is what the law is for, and there are few of them."""
MOST_READINGS = 8
"""Beyond, a model of the grid has learned its text by heart; a planned run, which counts, kept its best weights."""


def fit(_arguments: argparse.Namespace) -> None:
    """Fit the law to the runs that are kept, and write it."""
    kept = json.loads(RUNS.read_text())
    runs = [run for run in kept["runs"].values() if run["text"] in TEXTS]
    runs = [run for run in runs if _plannable(run, kept["texts"][run["text"]])]
    found = [_conditions(run, kept["texts"][run["text"]]) for run in runs]
    bits = np.array([run["bits_per_byte"] * _carried_over(run, kept["texts"][run["text"]]) for run in runs])
    weights = np.array([PLANNED_WEIGHT if run.get("planned") else 1.0 for run in runs])
    coefficients, errors = fitted(found, bits, weights)
    spread = float(np.sqrt(np.mean(errors**2)))
    left_out = []
    for text in TEXTS:
        inside = np.array([run["text"] != text for run in runs])
        if inside.all() or not inside.any():
            continue
        known = [one for one, use in zip(found, inside, strict=True) if use]
        without, _ = fitted(known, bits[inside], weights[inside])
        missed = _errors(without, found, bits)[~inside]
        left_out.append(float(missed.mean()))
        print(f"{text} left out: {missed.mean():+.1%} on average, spread {missed.std():.1%}", flush=True)
    for text in kept["texts"].keys() - {*TEXTS}:
        others = [run for run in kept["runs"].values() if run["text"] == text]
        measured = np.array([run["bits_per_byte"] for run in others])
        missed = _errors(coefficients, [_conditions(run, kept["texts"][text]) for run in others], measured)
        left_out.append(float(missed.mean()))
        print(f"{text}, which took no part: {missed.mean():+.1%} on average, spread {missed.std():.1%}", flush=True)
    law = {
        "coefficients": {name: float(f"{value:.5g}") for name, value in coefficients.items()},
        "spread": round(spread, 4),
        "text_spread": round(float(np.sqrt(np.mean(np.square(left_out)))) if left_out else 0.0, 4),
        "runs": len(runs),
        "weights": _range([run["parameters"] / 1e6 for run in runs]),
        "tokens": _range([run["tokens"] / 1e6 for run in runs]),
        "vocabulary": _range([run["vocab"] for run in runs]),
        "update": _range([run["batch"] * run["context"] for run in runs]),
        "context": _range([run["context"] for run in runs]),
    }
    write_json(LAW, law)
    for run, error in sorted(zip(runs, errors, strict=True), key=lambda pair: -abs(pair[1]))[:10]:
        shape = " ".join(f"{key} {run[key]}" for key in ("text", "vocab", "dim", "depth", "tokens", "context", "batch"))
        print(f"{error:+.1%}  {run['bits_per_byte']:.3f}  {shape} epochs {run['bytes_seen'] / run['unique_bytes']:.1f}")
    print(json.dumps(law, indent=2))


def fitted(
    found: list[Conditions], bits: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """The coefficients that come nearest, and the relative errors that are left."""
    guesses = np.array([math.log(guess) for guess, _ in GUESS.values()])
    widths = np.array([width for _, width in GUESS.values()])

    def residuals(values: NDArray[np.float64]) -> NDArray[np.float64]:
        coefficients = dict(zip(GUESS, np.exp(values).tolist(), strict=True))
        missed = weights * _errors(coefficients, found, bits) / EXPECTED_SPREAD
        return np.concatenate([missed, (values - guesses) / widths])

    values, damping = guesses.copy(), 1.0
    now = residuals(values)
    for _ in range(300):
        slopes = np.stack([(residuals(values + step) - now) / 1e-5 for step in 1e-5 * np.eye(len(values))], axis=1)
        curvature = slopes.T @ slopes
        move = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), -slopes.T @ now)
        tried = residuals(values + np.clip(move, -1, 1))
        if tried @ tried < now @ now:
            values, now, damping = values + np.clip(move, -1, 1), tried, damping / 3
        else:
            damping *= 4
    return dict(zip(GUESS, np.exp(values).tolist(), strict=True)), now[: len(bits)] * EXPECTED_SPREAD / weights


def _errors(coefficients: dict[str, float], found: list[Conditions], bits: NDArray[np.float64]) -> NDArray[np.float64]:
    law = Coefficients.model_construct(**coefficients)
    return np.log(bits) - np.log([predict(law, one) for one in found])


def _plannable(run: dict[str, Any], text: dict[str, Any]) -> bool:
    """Whether a plan could have chosen this: no text by heart, no vocabulary that the text is too short for."""
    read = run["bytes_seen"] / run["unique_bytes"]
    supported = run["vocab"] == BYTE or run["vocab"] * BYTES_FOR_A_TOKEN <= text["training_bytes"]
    return supported and (read < MOST_READINGS or run.get("planned", False))


def _carried_over(run: dict[str, Any], text: dict[str, Any]) -> float:
    return text.get("of_sample", {}).get(str(run["vocab"]), 1.0) if run["scored_bytes"] <= SAMPLE_BYTES else 1.0


def _conditions(run: dict[str, Any], text: dict[str, Any]) -> Conditions:
    output = run["table_parameters"] / 2 if run.get("untied") else 0
    return Conditions(
        xz_bits=text["xz_bits"],
        context_bits=text["context_bits"],
        probe_bits=text["probe_bits"],
        probed=text["probed_bytes"] / 1e6,
        block_weights=(run["parameters"] - run["table_parameters"]) / 1e6,
        table_weights=(run["table_parameters"] - output) / 1e6,
        output_weights=output / 1e6,
        tokens=run["bytes_seen"] / run["bytes_per_token"] / 1e6,
        unique_tokens=run["unique_bytes"] / run["bytes_per_token"] / 1e6,
        bytes_per_token=run["bytes_per_token"],
        held_out_bytes_per_token=run["held_out_bytes_per_token"],
        tokens_per_update=run["batch"] * run["context"],
        context=run["context"],
        depth=run["depth"],
        dim=run["dim"],
    )


def _range(values: list[float]) -> dict[str, float]:
    return {"low": float(f"{min(values):.4g}"), "high": float(f"{max(values):.4g}")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    training = verbs.add_parser("run")
    training.add_argument("--data", required=True, type=Path)
    training.add_argument("--text", action="append", default=[], metavar="NAME=PATH", help="a further text")
    training.add_argument("--work", type=Path, help="where to keep the shards (else they are made each time)")
    training.add_argument("--minutes", type=float, default=math.inf)
    training.add_argument("--processes", type=int, default=torch.get_num_threads())
    training.set_defaults(work_on=run)
    taking = verbs.add_parser("take")
    taking.add_argument("planned", type=Path, nargs="?", default=PLANNED)
    taking.set_defaults(work_on=take)
    verbs.add_parser("fit").set_defaults(work_on=fit)
    arguments = parser.parse_args()
    arguments.work_on(arguments)


if __name__ == "__main__":
    main()
