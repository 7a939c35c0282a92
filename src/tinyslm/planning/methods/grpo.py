"""Reinforcement learning from rewards (GRPO): sample answers to prompts, and learn from a grader's scores."""

from collections.abc import Sequence

from tinyslm.core.config import build_config, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import Conversation
from tinyslm.data.prompts import graded_fields, prepare_prompts
from tinyslm.evaluation.graders import FileGrader, find_grader
from tinyslm.model.folder import read_model_config
from tinyslm.planning.methods.checking import checked_examples
from tinyslm.planning.methods.method import Job, Method, Prepared
from tinyslm.planning.methods.sft import EPOCHS, ROW_MULTIPLE, report_skipped, rows_at_once
from tinyslm.training.config import RunConfig

CHECKED = 3
"""Number of rows to test a grader on before sampling."""


def prepare(job: Job) -> Prepared:
    """Tokenize the prompts, and choose row length and batch sizes for them.

    Raises `TinyslmError` for an unknown grader, and if the context leaves no room for a prompt.
    """
    config, settings, longest = job.config, job.config.grpo, read_model_config(job.base).longest
    find_grader(config.train.grader)
    room = (config.train.row_tokens or longest) - settings.max_tokens
    if room < 1:
        raise TinyslmError(
            f"The model reads {longest} tokens, and answers may have {settings.max_tokens}.",
            "Leave room for the prompts: --grpo.max-tokens",
        )
    files, skipped = job.files, dict[str, int]()
    places: list[str] = []

    def skip(place: str, reason: str) -> None:
        places.append(f"{place} ({reason})")
        skipped[reason] = skipped.get(reason, 0) + 1

    examples = checked_examples(job, answered=False)
    check_references(config.train.grader, examples.conversations)
    parts = prepare_prompts(
        iter(examples.conversations),
        job.out,
        job.tokenizer,
        longest=room,
        valid=iter(examples.valid) if files.valid else None,
        left_out=skip,
    )
    report_skipped(job, places)
    needed = max(len(prompt.ids) for prompts in parts.values() for prompt in prompts) + settings.max_tokens
    row = config.train.row_tokens or min(longest, -(-needed // ROW_MULTIPLE) * ROW_MULTIPLE)
    answers = max(1, settings.prompts * settings.group // settings.updates)
    chosen = {"row_tokens": row, "batch": answers}
    if "micro_batch" not in job.given.get("train", {}):
        chosen["micro_batch"] = rows_at_once(answers, row)
    if job.open_length:
        rounds = (files.epochs or EPOCHS) * len(parts["train"]) / settings.prompts
        chosen["steps"] = max(1, round(rounds * settings.updates))
    return Prepared(build_config(RunConfig, merge(config.model_dump(), {"train": chosen})), skipped)


def check_references(grader: str, conversations: Sequence[Conversation]) -> None:
    """Raise `TinyslmError` if a registered grader needs a field that the first rows lack, such as an answer."""
    function = find_grader(grader)
    if not isinstance(function, FileGrader):
        for conversation in conversations[:CHECKED]:
            function(graded_fields(conversation), "")


GRPO = Method("grpo", rates=(1e-4, 1e-5), prepare=prepare, needed=frozenset({"prompt"}), sections=frozenset({"grpo"}))
