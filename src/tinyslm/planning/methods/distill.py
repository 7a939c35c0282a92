"""Distillation on conversations: learn a larger model's next-token distributions on the answers."""

from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.model.folder import find_model, load_tokenizer
from tinyslm.planning.methods import sft
from tinyslm.planning.methods.method import Job, Method, Prepared
from tinyslm.tokenizer.comparing import first_difference, template_difference


def prepare(job: Job) -> Prepared:
    """Prepare as `sft.prepare` does. Raises `TinyslmError`, before reading data, for a teacher with other ids."""
    folder = find_model(Path(job.config.train.teacher))
    teacher = load_tokenizer(folder)
    if difference := first_difference(job.tokenizer, teacher) or template_difference(job.tokenizer, teacher):
        raise TinyslmError(
            f"The teacher in {folder} reads other tokens than the model in {job.base}: {difference}.",
            "Use a teacher of the same family, or learn from its answers: --method sft",
        )
    return sft.prepare(job)


DISTILL = Method("distill_answers", rates=(1e-3, 1e-4), prepare=prepare, sections=frozenset({"distill"}))
