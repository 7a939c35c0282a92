"""`tinyslm data extend`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from tinyslm.core.config import Section


class TeacherOptions(Section):
    """Who writes the examples, and how many."""

    teacher: str = Field(description="Address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1.")
    teacher_model: str = Field(default="", description="What the server calls the model; by default its first one.")
    count: int = Field(default=500, gt=0, description="How many examples to make.")
    grader: str = Field(
        default="", description="Keeps answers that score 0.5 or more: the name of a grader, or FILE.py:FUNCTION."
    )
    temperature: float = Field(default=1.0, ge=0, description="Temperature of the teacher: variety.")
    seed: int = Field(default=1, ge=0, description="Decides which examples the teacher is shown.")


def extend(
    *data: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    options: Annotated[TeacherOptions, Parameter(name="*")],
    map_: Annotated[tuple[str, ...], Parameter(name="--map")] = (),
    json: bool = False,
) -> None:
    """Have a larger model write more examples like yours, for those who have only some thirty.

    Prompts that resemble earlier ones are dropped, and so are rows with errors (see `tinyslm data lint`). Each row says
    that it is synthetic, and which model wrote it. Read a sample before you train on it: what the teacher gets wrong,
    the model learns. The server's key is read from OPENAI_API_KEY.

    Parameters
    ----------
    data
        Files of prompts with answers, as for `tinyslm finetune`.
    out
        The file of JSON lines to write.
    options
        Who writes the examples, and how many.
    map_
        Names of the rows' fields, as prompt=NAME,answer=NAME.
    json
        Print the counts as JSON.
    """
    from tinyslm.cli.finetune import fields_of
    from tinyslm.cli.telling import tell, working
    from tinyslm.core.console import say
    from tinyslm.core.errors import TinyslmError
    from tinyslm.core.quantities import counted
    from tinyslm.planning.teacher import Teacher, extend_examples

    if not data:
        raise TinyslmError(
            "No examples were given.", "For instance: tinyslm data extend rows.jsonl --teacher URL --out more.jsonl"
        )
    teacher = Teacher(options.teacher, options.teacher_model, options.grader, options.temperature)
    with working("Writing examples", json=json, unit=lambda rows: f"{rows:,.0f} rows") as progress:
        found = extend_examples(
            data, out, teacher, count=options.count, fields=fields_of(map_), seed=options.seed, progress=progress
        )
    made = min(options.count, len(found.made))
    if json:
        tell({"out": out, "examples": made, "dropped": found.dropped})
        return
    for reason, count in found.dropped.items():
        say(f"Dropped: {count:,} ({reason})")
    say(f"Written: {counted(made, 'example')}\nFile:    {out}")
