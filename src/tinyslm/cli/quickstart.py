"""`tinyslm quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tinyslm.cli.options import SettingOptions

if TYPE_CHECKING:
    from tinyslm.planning.quickstart import Quickstart


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
    from time import monotonic, process_time

    began = monotonic() - process_time()  # the start of the program counts too, and it was little but computing

    from tinyslm.cli.progress import stopping, watching
    from tinyslm.cli.settings import nested
    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say
    from tinyslm.core.files import free_folder
    from tinyslm.planning.quickstart import quickstart as run
    from tinyslm.training.config import RunConfig

    given = nested(RunConfig, settings)
    out = free_folder(out)
    if not json:
        source = text or "the Python standard library"
        say(f"Training a language model from scratch on {source}, for {minutes:g} minute{'' if minutes == 1 else 's'}.")
    with stopping(out, json=json), watching(began, json=json) as watch:
        ended = run(out, minutes=minutes, text=text, settings=given, watch=watch)
    if json:
        tell({"run": out, "model": ended.folder.model, "result": ended.result})
    else:
        _say(ended)


def _say(ended: Quickstart) -> None:
    from tinyslm.cli.planning import describe_expected
    from tinyslm.cli.progress import command
    from tinyslm.cli.train import describe_interval
    from tinyslm.core.console import say, table
    from tinyslm.core.quantities import count, size

    folder, result, functions = ended.folder, ended.result, ended.functions
    say(f"\nBits per byte on {size(result['utf8_bytes'])} of held-out text (less is better):")
    interval = f"({describe_interval(result)})"
    rows = [(name, f"{value:.3f}", "") for name, value in ended.baselines.items()]
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
