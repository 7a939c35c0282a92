"""How tokenization affects what small models learn: equal text, equal seconds of training, equal parameters.

    python benchmarks/tokenization.py --data FOLDER --dry-run
    python benchmarks/tokenization.py --data FOLDER --runs FILE --tables
    python benchmarks/tokenization.py --data FOLDER --runs FILE [--seconds 60] [--params 3M] [--seeds 1 2 3]
        [--only vocabulary kind digits case] [--texts stories python formulas sums] [--processes 2] [--again]

One setting of the tokenizer differs from a common base at a time. FOLDER has `stories/train.jsonl`,
`stories/valid.jsonl` and `eval/blimp.jsonl`; the other texts are the Python standard library, requests for spreadsheet
formulas with their answers (the generator of the pack excel), and additions with some stories among them. The shape of
each model is chosen so that all have the same number of parameters within 2 %, embeddings included.

Measured: bits per byte of held-out text with its interval; of stories, grammatical pairs of BLiMP preferred; of sums
and formulas, greedy answers to questions that are in no text (exact, and for formulas executed where the pack's engines
are installed); tokens and bytes per second.

First all texts are prepared, and the pace of each shape is measured: the best of several rounds, so keep the machine
quiet until then (--most 0 ends there). A model then trains on as many tokens as one thread reads in --seconds at that
pace: what else the machine does later changes nothing but how long this takes. Each trains in a process of its own.
Every finished model is a row of --runs, and is not made again; one that fails is a row with its reason, and is tried
again with --again. The result has all rows of --runs: those of several commands, with other sizes and seconds, add up.
"""

import argparse
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from harness import Finished, finish, in_process, parser
from tinyslm import Decoder, ModelConfig, Shards, TinyslmError, evaluate_tasks, save_model
from tinyslm.core.config import build_config, merge
from tinyslm.core.quantities import count, duration, parse_count
from tinyslm.data.config import DataConfig
from tinyslm.data.loader import Loader
from tinyslm.data.prepare import prepare
from tinyslm.evaluation.loss import document_losses
from tinyslm.evaluation.settings import EvaluationSettings
from tinyslm.hardware.device import pick_dtype
from tinyslm.model.decoder import new_model
from tinyslm.model.sizing import shape_of, table_parameters
from tinyslm.planning.rates import rates
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.training.config import RunConfig
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.schedule import lr_scale
from tinyslm.training.stage import Batch
from tinyslm.training.stages.pretrain import next_token_loss
from tinyslm.training.validation import spread_documents
from tokenization_plots import tables
from tokenization_texts import QUESTIONS, held_out, write_task, write_texts

TEXTS = ("stories", "python", "formulas", "sums")
BASE: dict[str, Any] = {"kind": "bpe", "vocab_size": 4096}
FACTORS: dict[str, Sequence[dict[str, Any]]] = {
    "vocabulary": [{}, *({"vocab_size": size} for size in (320, 1024, 2048, 8192, 16_384, 32_768))],
    "kind": [{}, *({"kind": kind} for kind in ("unigram", "wordpiece", "char", "byte"))],
    "digits": [{}, *({"digits": digits} for digits in ("two", "one", "free"))],
    "case": [{}, {"case": "marked"}],
}
"""What each factor changes in the base; {} is the base."""
OF_SUMS = {"kind", "digits"}
"""The factors that sums are trained with."""
CONTEXT, BATCH = 512, 4
PACE_STEPS, PACE_ROUNDS = 3, 3
SCORED_BYTES = 400_000
PAIRS = 1_340  # of grammar: twenty of each of BLiMP's 67 paradigms
REST = 45.0
"""Seconds that a model takes besides its training, roughly: for --dry-run."""
Row = dict[str, Any]
FAULTS = (TinyslmError, RuntimeError, OSError, ValueError)


@dataclass(frozen=True)
class Case:
    """A model to train. seconds: of one thread. tokenizer: settings that differ from the base."""

    text: str
    params: int
    seconds: float
    seed: int
    tokenizer: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the tokenizer."""
        return BASE | self.tokenizer

    @property
    def named(self) -> str:
        """The text and the settings, in words."""
        return " ".join([self.text, *(f"{name}={value}" for name, value in self.settings.items())])

    @property
    def key(self) -> str:
        """A name that tells it from all others."""
        return f"{count(self.params)} {self.seconds:g}s seed={self.seed} {self.named}"


def main() -> None:
    given = options()
    cases = list({case.key: case for case in all_cases(given)}.values())
    with tempfile.TemporaryDirectory() as temporary:
        finished = Finished(given.runs or Path(temporary) / "runs.json")
        rows = finished.rows.setdefault("runs", {})
        if given.again:
            finished.rows["runs"] = rows = {key: row for key, row in rows.items() if "failed" not in row}
            known = finished.rows.get("vocabularies", {})
            finished.rows["vocabularies"] = {name: size for name, size in known.items() if isinstance(size, int)}
        if given.tables:
            print(*tables(list(rows.values())), sep="\n")
            return
        missing = [case for case in cases if case.key not in rows]
        expected = sum(case.seconds + REST for case in missing) / given.processes
        print(f"{len(cases)} models, {len(missing)} of them to train: about {duration(expected)}", flush=True)
        if given.dry_run:
            print(*(case.key for case in missing), sep="\n")
            return
        train_all(missing, finished, given, given.work or Path(temporary))
        finish({"runs": list(finished.rows["runs"].values())})


def options() -> argparse.Namespace:
    given = parser(__doc__)
    given.add_argument("--data", required=True, type=Path)
    given.add_argument("--runs", type=Path, help="a JSON file of finished models, to resume from")
    given.add_argument("--work", type=Path, help="a folder that keeps generated texts and shards for the next command")
    given.add_argument("--only", nargs="+", choices=list(FACTORS), default=list(FACTORS), metavar="FACTOR")
    given.add_argument("--texts", nargs="+", choices=TEXTS, default=list(TEXTS))
    given.add_argument("--params", nargs="+", type=parse_count, default=[3_000_000], help="such as 1M 3M")
    given.add_argument("--seconds", type=float, default=60.0, help="of training in one thread, for each model")
    given.add_argument("--seeds", type=int, nargs="+", default=[1])
    given.add_argument("--most", type=int, help="train at most so many models, then stop")
    given.add_argument("--processes", type=int, default=1, help="models that train side by side")
    given.add_argument("--again", action="store_true", help="try those again that failed")
    given.add_argument("--tables", action="store_true", help="train nothing, print the rows of --runs as tables")
    given.add_argument("--dry-run", action="store_true", help="list what is to be trained, and how long it takes")
    return given.parse_args()


def all_cases(given: argparse.Namespace) -> list[Case]:
    """All models, those of the first seed first; the base of a text is among those of every factor."""
    return [
        Case(text, params, given.seconds, seed, dict(change))
        for seed in given.seeds
        for params in given.params
        for factor in given.only
        for text in given.texts
        if text != "sums" or factor in OF_SUMS
        for change in FACTORS[factor]
    ]


def train_all(cases: Sequence[Case], finished: Finished, given: argparse.Namespace, work: Path) -> None:
    """Prepare the texts, measure the paces, and train the models, some side by side; all is stored when it is done."""
    work.mkdir(parents=True, exist_ok=True)
    places = [str(given.data), str(work)]
    known = finished.rows.setdefault("vocabularies", {})
    texts = {case.named: case for case in cases if case.named not in known}
    for case, size in side_by_side("vocabulary_of", texts.values(), places, given.processes):
        finished.keep("vocabularies", case.named, size)
    sizes = finished.rows["vocabularies"]
    paces = {f"{case.params} {sizes[case.named]}": case for case in cases if isinstance(sizes[case.named], int)}
    measure_paces([key for key in paces if key not in finished.rows.get("paces", {})], finished)
    for case, row in side_by_side("row_of", cases[: given.most], [*places, finished.rows["paces"]], given.processes):
        finished.keep("runs", case.key, row)
        print(case.key, row.get("failed") or {name: row[name] for name in shown(row)}, flush=True)


def side_by_side(
    function: str, cases: Iterable[Case], places: Sequence[Any], processes: int
) -> Iterator[tuple[Case, Any]]:
    """Cases with what a function of this file returns for each, as soon as it does."""
    with ThreadPoolExecutor(processes) as pool:
        running = {pool.submit(in_own_process, function, case, places): case for case in cases}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def measure_paces(keys: Sequence[str], finished: Finished) -> None:
    """Store the tokens per second of each "PARAMETERS VOCABULARY": the best of some rounds, each with all of them."""
    best: dict[str, float] = {}
    for number in range(PACE_ROUNDS if keys else 0):
        for key, pace in in_process("tokenization.paces_of", keys).items():
            best[key] = max(best.get(key, 0.0), pace)
        print(f"paces, round {number + 1}:", {key: round(pace) for key, pace in best.items()}, flush=True)
    for key, pace in best.items():
        finished.keep("paces", key, round(pace, 1))
    finished.rows.setdefault("paces", {})


def paces_of(keys: Sequence[str]) -> dict[str, float]:
    """Tokens per second that one thread trains models of these sizes on, without those that do not exist."""
    torch.set_num_threads(1)
    ids = torch.randint(256, (BATCH, CONTEXT + 1), generator=torch.Generator().manual_seed(0))
    found = {}
    for key in keys:
        shape = shape_of(*map(int, key.split()), context=CONTEXT)
        if shape:
            reports = updates(shape, 1, {}, lambda: Batch.of_windows(ids), 1 + PACE_STEPS)[1]
            next(reports)
            begun = time.process_time()
            list(reports)
            found[key] = PACE_STEPS * BATCH * CONTEXT / (time.process_time() - begun)
    return found


def shown(row: Row) -> list[str]:
    """The figures of a row that are printed."""
    names = ("bits_per_byte", "tokens_per_second", "grammar", "sums", "formulas", "formulas_executed")
    return [name for name in names if name in row]


def in_own_process(function: str, case: Case, places: Sequence[Any]) -> Any:
    """What a function of this file returns for a case; a row that says so if its process ends without."""
    try:
        return in_process(f"tokenization.{function}", asdict(case), *places)
    except subprocess.CalledProcessError as error:
        if error.returncode == -signal.SIGINT:
            raise KeyboardInterrupt from None
        return {**asdict(case), "failed": f"the process ended with code {error.returncode}"}


def vocabulary_of(given: dict[str, Any], data: str, work: str) -> int | Row:
    """The number of tokens of a case, whose text is prepared; a row that says so if it has none."""
    case = Case(**given)
    try:
        known = build_config(TokenizerConfig, case.settings).known_size
        if known and shape_of(case.params, known, context=CONTEXT) is None:
            return known  # too many for the model: the text is not read
        return shards_of(case, Path(data), Path(work)).tokenizer.vocab_size
    except FAULTS as error:
        return failed(case, error)


def row_of(given: dict[str, Any], data: str, work: str, paces: Mapping[str, float]) -> Row:
    """Train and score one model; a failure is a row too."""
    case = Case(**given)
    torch.set_num_threads(1)
    try:
        return {**given, "settings": case.settings, **measured(case, Path(data), Path(work), paces)}
    except FAULTS as error:
        return failed(case, error)


def failed(case: Case, error: Exception) -> Row:
    """The row of a model that there is not."""
    reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    return {**asdict(case), "settings": case.settings, "failed": reason}


def measured(case: Case, data: Path, work: Path, paces: Mapping[str, float]) -> Row:
    """The figures of one model. Raises `TinyslmError` if the text or the size do not allow the vocabulary."""
    begun = time.monotonic()
    if known := build_config(TokenizerConfig, case.settings).known_size:
        checked_shape(case.params, known)  # before the text is read
    shards = shards_of(case, data, work)
    shape = checked_shape(case.params, shards.tokenizer.vocab_size)
    model, figures = trained(case, shape, shards, paces[f"{case.params} {shape.vocab_size}"])
    valid = shards.split("valid")
    documents = spread_documents(valid, max(1, int(SCORED_BYTES * valid.tokens / valid.utf8_bytes)))
    score = document_losses(model, documents, end_id=shards.tokenizer.eos_id).score()
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder) / "model", shards.tokenizer)
        answers = answered(case, Path(folder), data)
    return {
        "vocabulary": shape.vocab_size,
        "parameters": shape.parameters,
        "embedding_share": round(table_parameters(shape) / shape.parameters, 4),
        "shape": {name: getattr(shape, name) for name in ("dim", "depth", "heads", "ffn_dim", "context")},
        "bytes_per_token": round(valid.utf8_bytes / valid.tokens, 4),
        **figures,
        **{name: round(getattr(score, name), 5) for name in ("bits_per_byte", "low", "high")},
        "scored_bytes": score.utf8_bytes,
        **answers,
        "seconds_in_all": round(time.monotonic() - begun, 1),
    }


def checked_shape(params: int, vocab_size: int) -> ModelConfig:
    """The shape of a model with so many parameters and tokens. Raises `TinyslmError` if there is none."""
    shape = shape_of(params, vocab_size, context=CONTEXT)
    if shape is None:
        raise TinyslmError(
            f"A model of {count(params)} parameters cannot have {vocab_size:,} tokens.",
            "The embeddings alone take too many.",
        )
    return shape


def shards_of(case: Case, data: Path, work: Path) -> Shards:
    """The text in the tokens of the case, prepared once for all sizes and seeds. Near duplicates stay: generated
    documents resemble each other."""
    tokenizer = build_config(TokenizerConfig, case.settings)
    train, valid = write_texts(case.text, data, work)
    config = DataConfig(workers=1, near_duplicate_threshold=0, valid_paths=tuple(valid))
    name = "-".join(f"{key}-{value}" for key, value in case.settings.items())
    return prepare(train, work / f"{case.text}-{name}", tokenizer=tokenizer, config=config)


def trained(case: Case, shape: ModelConfig, shards: Shards, pace: float) -> tuple[Decoder, Row]:
    """A model after the tokens that the seconds of its case allow at a pace in tokens per second."""
    train = shards.split("train")
    per_update = BATCH * CONTEXT
    steps = max(1, round(case.seconds * pace / per_update))
    tokens = steps * per_update
    chosen = rates(shape.dim, per_update, steps, tokens / train.tokens)
    schedule = build_config(RunConfig, chosen).schedule
    loader = Loader(train, context=CONTEXT, batch=BATCH, seed=case.seed)

    def next_batch() -> Batch:
        return Batch.of_windows(torch.from_numpy(loader.next()))

    model, reports = updates(shape, case.seed, chosen, next_batch, steps, lambda step: lr_scale(step / steps, schedule))
    for _report in reports:
        pass
    return model, {
        "steps": steps,
        "tokens": tokens,
        "epochs": round(tokens / train.tokens, 3),
        "tokens_per_second": round(pace),
        "bytes_per_second": round(pace * train.utf8_bytes / train.tokens),
    }


def updates(
    shape: ModelConfig,
    seed: int,
    chosen: Row,
    next_batch: Callable[[], Batch],
    steps: int,
    scale: Callable[[int], float] = lambda _step: 0.0,
) -> tuple[Decoder, Iterator[Any]]:
    """A new model, and the generator of its updates."""
    config = build_config(RunConfig, merge(chosen, {"model": shape.model_dump() | chosen.get("model", {})}))
    torch.manual_seed(seed)
    model = new_model(config.model)
    settings = StepSettings(steps, BATCH, config.optimizer.clip, pick_dtype(torch.device("cpu")), scale)
    return model, train_steps(model, next_token_loss, next_batch, Optimizers(model, config.optimizer), settings)


def answered(case: Case, folder: Path, data: Path) -> Row:
    """The scores of the tasks of a text."""
    settings = EvaluationSettings(limit=PAIRS, threads=torch.get_num_threads())
    model = folder / "model"
    if case.text == "stories":
        (pairs,) = evaluate_tasks(model, [f"blimp={data / 'eval' / 'blimp.jsonl'}"], settings=settings)
        return {"grammar": round(pairs.value, 4), "grammar_interval": [round(pairs.low, 4), round(pairs.high, 4)]}
    if case.text not in QUESTIONS:
        return {}
    (exact,) = evaluate_tasks(model, [str(write_task(case.text, folder))], settings=settings)
    asked = held_out(case.text)
    found: Row = {
        case.text: round(exact.value, 4),
        f"{case.text}_interval": [round(exact.low, 4), round(exact.high, 4)],
    }
    if case.text == "sums":
        right = [(one.fields["digits"], outcome["score"]) for one, outcome in zip(asked, exact.outcomes, strict=True)]
        by_digits = {digits: [score for number, score in right if number == digits] for digits, _ in sorted(right)}
        return found | {"sums_by_digits": {str(n): round(sum(each) / len(each), 4) for n, each in by_digits.items()}}
    if all(find_spec(name) for name in ("ironcalc", "formulon", "formulas", "openpyxl")):
        from tinyslm.packs.excel.grading import grade_formula

        grades = [grade_formula(one.fields, answer).score for one, answer in zip(asked, exact.answers, strict=True)]
        found["formulas_executed"] = round(sum(grades) / len(grades), 4)
    return found


if __name__ == "__main__":
    main()
