"""Learning from preferences (DPO): make chosen answers more probable than rejected ones."""

from tinyslm.data.examples import RowLoader, open_examples
from tinyslm.data.preferences import KIND, prepare_preferences
from tinyslm.model.folder import read_model_config
from tinyslm.planning.methods.checking import checked_examples
from tinyslm.planning.methods.method import Job, Method, Prepared
from tinyslm.planning.methods.sft import fitted, report_skipped, row_of

EPOCHS = 1.0
"""Fewer than for examples: repeated pairs are mostly memorized."""


def prepare(job: Job) -> Prepared:
    """Tokenize the pairs, and choose row length, batch size and number of updates for them."""
    skipped: list[str] = []
    examples = checked_examples(job)
    prepared = prepare_preferences(
        iter(examples.conversations),
        job.out,
        job.tokenizer,
        context=read_model_config(job.base).longest,
        valid=iter(examples.valid) if job.files.valid else None,
        left_out=lambda place, reason: skipped.append(f"{place} ({reason})"),
    )
    report_skipped(job, skipped)
    row = job.config.train.row_tokens or row_of(prepared.longest)
    loader = RowLoader(open_examples(job.out, kind=KIND)[0], context=row, batch=1, seed=0)
    rows = loader.rows_of_an_epoch
    return Prepared(fitted(job, row, rows, EPOCHS), prepared.left_out, rows)


DPO = Method(
    "dpo",
    rates=(3e-4, 2e-6),
    prepare=prepare,
    needed=frozenset({"prompt", "chosen", "rejected"}),
    sections=frozenset({"dpo"}),
)
