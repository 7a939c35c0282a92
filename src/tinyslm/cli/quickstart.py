"""`tinyslm quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tinyslm.cli.options import SettingOptions

if TYPE_CHECKING:
    from tinyslm.data.shards import Shards
    from tinyslm.evaluation.functions import FunctionScore
    from tinyslm.training.run import Run


MOST_TRAINING_TOKENS = 10_000_000
"""Of more training text than this, only a part is searched for functions, and xz would take minutes."""


def quickstart(
    *,
    minutes: float = 5.0,
    text: Path | None = None,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("quickstart"),
    json: bool = False,
    settings: SettingOptions = (),
) -> None:
    """Train a model from scratch on text that every machine has: the source of the Python standard library.

    What is trained is planned for the time, as `tinyslm train` does.

    Parameters
    ----------
    minutes
        How long the run may take, from reading the text to its report.
    text
        Train on this file or folder instead.
    out
        The run folder to write; when it exists, a number is added to its name.
    json
        Print the result as JSON, and no progress.
    settings
        Any setting, as `--section.key value`.
    """
    from contextlib import nullcontext
    from time import monotonic, process_time

    begun = monotonic() - process_time()  # the start of the program counts too, and it was little but computing

    from tinyslm.cli.progress import stopping, warning, watching
    from tinyslm.cli.settings import nested
    from tinyslm.cli.starting import Order, begin
    from tinyslm.cli.telling import tell
    from tinyslm.core.config import build_config, merge
    from tinyslm.core.console import say
    from tinyslm.core.json_files import read_json
    from tinyslm.data.standard_library import standard_library
    from tinyslm.training.config import RunConfig
    from tinyslm.training.pipeline import finish

    paths = [str(text)] if text else standard_library()
    given = merge({"train": {"minutes": minutes}}, nested(RunConfig, settings))
    config = build_config(RunConfig, given, origin="the options")
    if not json:
        source = text or "the Python standard library"
        say(f"Training a language model from scratch on {source}, for {minutes:g} minutes.")
    run = begin(Order(paths, _free(out), given, config, begun, json=json))
    with stopping(run.folder.path, json=json), nullcontext(warning) if json else watching(run) as watch:
        result = finish(run, watch)
    if json:
        _compare(run, result)
        tell({"run": run.folder.path, "model": run.folder.model, "result": read_json(run.folder.result_file)})
        return
    say("\nComparing with what needs no model ...")
    _tell(run, result, *_compare(run, result))


def _free(out: Path) -> Path:
    """The first of `out`, `out-2`, `out-3`, ... that does not exist."""
    number, free = 1, out
    while free.exists():
        number += 1
        free = out.with_name(f"{out.name}-{number}")
    return free


def _compare(run: Run, result: dict[str, Any]) -> tuple[dict[str, float], FunctionScore | None]:
    """Baselines and completions, also written to the result file and the report."""
    from tinyslm.core.files import write_json
    from tinyslm.evaluation.baselines import baselines
    from tinyslm.evaluation.functions import score_functions
    from tinyslm.inference.engine import Engine
    from tinyslm.training.report import write_report

    held_out = _texts(run.shards, "valid", run.score_tokens)  # the very documents that the model was scored on
    training = b"".join(_texts(run.shards, "train", MOST_TRAINING_TOKENS))
    whole = run.shards.split("train").tokens <= MOST_TRAINING_TOKENS
    others = baselines(b"".join(held_out), training if whole else None)
    documents = (text.decode("utf-8", "replace") for text in held_out)
    functions = score_functions(Engine(run.model, run.shards.tokenizer), documents, training)
    extra: dict[str, Any] = {"baselines": others}
    if functions:
        extra["functions"] = {
            "headers": functions.headers,
            "completions that parse": functions.completions_parse,
            "originals that parse, cut the same way": functions.originals_parse,
        }
    write_json(run.folder.result_file, {**result, **extra})
    write_report(run.folder.path)
    return others, functions


def _texts(shards: Shards, split: str, tokens: int) -> list[bytes]:
    """The documents of a split, or some of them, spread evenly, that have about so many tokens."""
    from tinyslm.training.validation import spread_documents

    return [shards.tokenizer.decode_bytes(ids) for ids, _ in spread_documents(shards.split(split), tokens)]


def _tell(run: Run, result: dict[str, Any], others: dict[str, float], functions: FunctionScore | None) -> None:
    from tinyslm.cli.planning import describe_expected
    from tinyslm.cli.progress import command
    from tinyslm.cli.train import describe_interval
    from tinyslm.core.console import say, table
    from tinyslm.core.quantities import count, size

    folder = run.folder
    say(f"\nBits per byte on {size(result['utf8_bytes'])} of held-out text (less is better):")
    interval = f"({describe_interval(result)})"
    rows = [(name, f"{value:.3f}", "") for name, value in others.items()]
    table(
        [*rows, (f"this model, {count(result['parameters'])} parameters", f"{result['bits_per_byte']:.3f}", interval)]
    )
    if planned := result.get("planned"):
        say(f"The plan expected {describe_expected(planned)}.")
    if functions:
        say(
            f"\nCompletions of {functions.headers} unseen function headers that parse: {functions.completions_parse}"
            f" (originals cut the same way: {functions.originals_parse}). The first:\n\n{functions.examples[0]}"
        )
    prompt = "def read_" if functions else "The "
    say(f"Model folder: {folder.model}")
    say(f"Loss plot:    {folder.path / 'report.png'}")
    say(f"Report:       {folder.path / 'report.html'}")
    say("\nTry next:")
    say(f"  {command()} generate {folder.model} --prompt '{prompt}'")
    say(f"  {command()} show {folder.path}")
    say(f"  {command()} train YOUR-TEXTS/ --out runs/mine --minutes 10")
