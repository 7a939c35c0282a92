"""`tinyslm compare`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tinyslm.evaluation.settings import EvaluationSettings

if TYPE_CHECKING:
    from tinyslm.export.comparing import Comparison

LONGEST_NAME = 22
"""Maximum number of characters of a model's name in the terminal."""


def compare(
    *models: str,
    tasks: tuple[str, ...] = (),
    text: tuple[str, ...] = (),
    prompt: Annotated[tuple[str, ...], Parameter(name=["--prompt", "-p"], allow_leading_hyphen=True)] = (),
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    tokens: int | None = None,
    evaluation: Annotated[EvaluationSettings | None, Parameter(name="*")] = None,
    json: bool = False,
) -> None:
    """Compare models: scores on tasks and on text, size, memory, speed, samples, and disagreements.

    Each model is compared with the first one, item by item.

    Parameters
    ----------
    models
        Model folders, run folders, GGUF files, folders that `tinyslm export --to onnx` wrote, and servers with an
        OpenAI-compatible API: http://127.0.0.1:8000/v1#MODEL
    tasks
        Tasks, as for `tinyslm evaluate`. Without tasks and text: the built-in set "grammar".
    text
        Text that no model was trained on, as for `tinyslm train`; may be given several times. With text, list each
        export after the model folder that it was made from.
    prompt
        A text that every model continues, or `@FILE`; may be given several times. By default, the first words of some
        items or texts.
    out
        A folder to write a page, images and JSON to, with samples and the items on which the models disagree.
    tokens
        How many tokens of the text to score; the default is 8,192, or 512 if there is a GGUF file, which takes longer.
    evaluation
        Settings of task evaluation.
    json
        Print the figures as JSON.
    """
    from tinyslm.cli.asking import given_text
    from tinyslm.cli.export import read_texts
    from tinyslm.cli.pull import pulled_name
    from tinyslm.cli.telling import tell, working
    from tinyslm.core.console import say
    from tinyslm.core.errors import TinyslmError
    from tinyslm.core.quantities import counted
    from tinyslm.export.comparing import compare_models
    from tinyslm.export.comparison_page import check_unused, write_comparison

    if tokens is not None and tokens < 1:
        raise TinyslmError(f"{tokens} tokens cannot be scored.", "Give --tokens at least 1.")
    if out is not None:
        check_unused(out)
    with working(f"Comparing {counted(len(models), 'model')}", json=json, unit="{:,.0f}".format) as progress:
        comparison = compare_models(
            tuple(map(pulled_name, models)),
            read_texts(text),
            tasks,
            prompts=tuple(map(given_text, prompt)) or (None if out is not None or json else ()),
            tokens=tokens,
            settings=evaluation,
            progress=progress,
        )
    page = None if out is None else write_comparison(comparison, out)
    if json:
        tell(comparison.as_json(items=False))
        return
    _print(comparison)
    if page is None:
        _print_samples(comparison)
    else:
        say(f"\nPage, images and items: {page}")


def _print(comparison: "Comparison") -> None:
    from textwrap import fill

    from tinyslm.core.console import say, table
    from tinyslm.export.comparison_page import (
        COST_HEADER,
        COST_LEGEND,
        HEADER,
        LEGEND,
        SCORE_HEADER,
        cells,
        cost_cells,
        means,
        measured_on,
        score_cells,
        significance,
        task_heading,
    )

    names = _short([model.name for model in comparison.models])
    for task in comparison.tasks:
        say(f"\n{fill(task_heading(task), 79)}")
        table([score_cells(name, task, index) for index, name in enumerate(names)], SCORE_HEADER)
        if len(names) > 1:
            say(f"Outcomes differ on {task.disagreeing:,} of {task.items:,} items.")
    for text in filter(None, (means(comparison), significance(comparison))):
        say("\n" + fill(text, 79))
    if comparison.passages:
        say()
        table([cells(model) for model in comparison.models], HEADER)
        say("\n" + fill(f"{measured_on(comparison)} {LEGEND}", 79))
    if comparison.tasks:
        say()
        table(
            [(name, *cost_cells(model)[1:]) for name, model in zip(names, comparison.models, strict=True)], COST_HEADER
        )
        say("\n" + fill(COST_LEGEND, 79))
    if comparison.notes:
        say()
    for note in comparison.notes:
        say(fill(note, 79, subsequent_indent="  "))


def _short(names: Sequence[str]) -> list[str]:
    """Shorten long names from the left, so that rows fit a terminal; keep all names if two would become equal."""
    cut = [name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}" for name in names]
    return cut if len(set(cut)) == len(cut) else list(names)


def _print_samples(comparison: "Comparison") -> None:
    from tinyslm.core.console import say

    for sample in comparison.samples:
        for model, text in zip(comparison.models, sample.texts, strict=True):
            say(f"\n{model.name}:\n{sample.prompt}{text}")
