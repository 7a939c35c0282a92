"""`quickstart`: train on text that every machine has, and compare the model with baselines."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tinyslm.core.config import merge
from tinyslm.core.files import free_folder, write_json
from tinyslm.data.shards import Shards
from tinyslm.data.standard_library import standard_library
from tinyslm.evaluation.baselines import baselines
from tinyslm.evaluation.functions import FunctionScore, score_functions
from tinyslm.inference.engine import Engine
from tinyslm.model.folder import load_model
from tinyslm.planning.train import train
from tinyslm.training.pipeline import Watch, draw_report
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.validation import spread_documents

MOST_TRAINING_TOKENS = 10_000_000
"""Larger training texts are sampled to search for functions, and have no baselines that take minutes, such as xz."""


@dataclass(frozen=True)
class Quickstart:
    """The result of `quickstart`.

    folder: the run folder. baselines: bits per byte of methods without a model. functions: the score of completing
    Python functions, or None if the text has none.
    """

    folder: RunFolder
    result: Mapping[str, Any]
    baselines: Mapping[str, float]
    functions: FunctionScore | None


def quickstart(
    out: str | Path = "quickstart",
    *,
    minutes: float = 5.0,
    text: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Quickstart:
    """Train on the Python standard library (or `text`) as `train` does, then compare with baselines.

    out: the run folder; if it exists, a number is added to its name. watch: also gets the event "comparing" before the
    comparison. The result file contains all scores. Raises what `train` raises.
    """
    watch = watch or Watch()
    folder = RunFolder(free_folder(Path(out)))
    given = merge({"train": {"minutes": minutes}}, settings or {})
    result = train([str(text)] if text else standard_library(), folder.path, settings=given, watch=watch)
    watch.event({"event": "comparing"})
    return _compared(folder, result, watch)


def _compared(folder: RunFolder, result: Mapping[str, Any], watch: Watch) -> Quickstart:
    """Compute baselines and completions, and add them to the result file and the report."""
    shards = Shards.open(folder.checked_data(folder.read_config()), verify=False)
    held_out = _texts(shards, "valid", folder.read_config().train.score_tokens)  # what the model was scored on
    training = b"".join(_texts(shards, "train", MOST_TRAINING_TOKENS))
    whole = shards.split("train").tokens <= MOST_TRAINING_TOKENS
    watch.progress("compressing the text", 0, 0)
    others = baselines(b"".join(held_out), training if whole else None)
    engine = Engine(load_model(folder.model), shards.tokenizer)
    documents = (text.decode("utf-8", "replace") for text in held_out)
    functions = score_functions(engine, documents, training, progress=partial(watch.progress, "completing functions"))
    further: dict[str, Any] = {"baselines": others}
    if functions:
        further["functions"] = {
            "headers": functions.headers,
            "completions that parse": functions.completions_parse,
            "originals that parse, cut the same way": functions.originals_parse,
        }
    result = {**result, **further}
    write_json(folder.result_file, result)
    draw_report(folder.path)
    return Quickstart(folder, result, others, functions)


def _texts(shards: Shards, split: str, tokens: int) -> list[bytes]:
    """The documents of a split, or an evenly spread sample of about this many tokens."""
    return [shards.tokenizer.decode_bytes(ids) for ids, _ in spread_documents(shards.split(split), tokens)]
