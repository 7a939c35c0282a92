"""The end of a run: the best weights are scored on validation documents and become the model folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import read_manifest, write_json
from tinyslm.core.json_files import read_json
from tinyslm.evaluation.loss import score_documents
from tinyslm.model.folder import save_model
from tinyslm.training.checkpoint import load_weights
from tinyslm.training.interrupt import Interrupted, StopRequest
from tinyslm.training.looking import uncompiled
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.validation import spread_documents

if TYPE_CHECKING:
    from tinyslm.training.run import Run


def finish(run: Run, stop: StopRequest) -> Iterator[dict[str, Any]]:
    """Score a run's best weights, and write its model folder and result; the last event is "end".

    Raises `Interrupted` when somebody asks to stop meanwhile.
    """
    step = run.progress.best_step
    try:
        read_manifest(run.folder.best(step))
        load_weights(run.folder.best(step), run.model)
    except TinyslmError as error:
        step = run.progress.step
        yield {"event": "warning", "step": step, "text": f"{error.problem} The last weights are taken instead."}
    with uncompiled():
        score = score_documents(run.model, _held_out(run, stop), end_id=run.shards.tokenizer.eos_id)
    result = {
        **asdict(score),
        "step": step,
        "training_tokens": run.progress.tokens,
        "training_seconds": round(run.progress.seconds, 1),
        "parameters": run.config.model.parameters,
    }
    save_model(run.model, run.folder.model, run.shards.tokenizer, training=result)
    write_json(run.folder.result_file, result)
    yield {"event": "end", "step": run.progress.step, "seconds": round(run.seconds, 3), "result": result}


def finished_result(path: Path) -> dict[str, Any] | None:
    """The result of a run that has ended, else None."""
    folder = RunFolder.open(path)
    ended = folder.result_file.is_file() and folder.report.is_file()  # the report is written last
    return read_json(folder.result_file, remedy="Remove it, and resume the run to score it again.") if ended else None


def _held_out(run: Run, stop: StopRequest) -> Iterator[tuple[list[int], int]]:
    """The documents of the final score, until somebody asks to stop."""
    for document in spread_documents(run.shards.split("valid"), run.score_tokens):
        if stop.requested:
            raise Interrupted(run.progress.step)
        yield document
