"""`tinyslm export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from tinyslm.export.exporting import Export


def export(
    model: Path,
    /,
    *,
    to: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    calibrate: tuple[str, ...] = (),
    no_verify: bool = False,
    threads: int = 0,
    json: bool = False,
) -> None:
    """Write a model for other programs, and check in each of these that it is still the same model.

    A table says what the check found. What fails it is left under a name that ends in `.failed`, and the exit code is
    1. Nothing is ever written over. The report `exports.json` in the output folder has all figures.

    Parameters
    ----------
    model
        A model folder, or a run folder (its model is used).
    to
        What to make, separated by commas: a format (gguf, onnx, hf), which means its usual schemes, a format and a
        scheme as `gguf:q4_k_m` or `onnx:int4`, or all schemes of one, as `gguf:all`.
    out
        The folder to write to.
    calibrate
        Text like that which the model is for, as for `tinyslm train`; may be given several times. Some schemes measure
        with it which weights matter most, and the check takes its prompts from it.
    no_verify
        Do not check. The table says so.
    threads
        Threads for the programs that check; 0: as many as OMP_NUM_THREADS says, or all cores.
    json
        Print what was made as JSON.
    """
    import sys
    from dataclasses import asdict

    from tinyslm.cli.pull import pulled
    from tinyslm.cli.telling import tell, working
    from tinyslm.core.console import say, warn
    from tinyslm.export.exporting import REPORT, export_model
    from tinyslm.hardware.limits import thread_count

    model, texts = pulled(model), read_texts(calibrate)
    with working(f"Exporting {model}", json=json) as progress:
        made = export_model(
            model, to, out, texts=texts, verify=not no_verify, threads=thread_count(threads), progress=progress
        )
    if json:
        tell([asdict(one) for one in made])
    else:
        say()
        _show(made)
        say(f"\nReport: {out / REPORT}")
    if any(one.failed for one in made):
        warn("What failed the check is not the same model and was renamed; it should not be used.")
        sys.exit(1)


def read_texts(paths: tuple[str, ...]) -> list[str]:
    """The first texts of the paths, about a million characters."""
    from tinyslm.core.console import warn
    from tinyslm.data.reading import read_documents

    texts: list[str] = []
    characters = 0
    if paths:
        for document in read_documents(paths, notify=warn):
            texts.append(document.text)
            characters += len(document.text)
            if characters >= 1_000_000:
                break
    return texts


def _show(made: list[Export]) -> None:
    """The table, and below it what is to be known of all exports, and of each."""
    from tinyslm.core.console import say, table

    table([_row(one) for one in made], ("format", "scheme", "size", "ids", "greedy", "mean KL", "tokens/s", "verdict"))
    remarks = [_remarks(one) for one in made]
    common = [line for line in remarks[0] if all(line in others for others in remarks)]
    say("".join(f"\n{line}" for line in common) + "\n")
    for one, lines in zip(made, remarks, strict=True):
        say(f"{one.path}")
        for line in lines:
            if line not in common:
                say(f"  {line}")


def _row(one: Export) -> tuple[str, ...]:
    from tinyslm.core.quantities import size

    word = one.verdict.partition(":")[0]
    if (found := one.findings) is None:
        return one.format, one.scheme, size(one.bytes), "–", "–", "–", "–", word
    return (
        one.format,
        one.scheme,
        size(one.bytes),
        f"{found.strings_equal}/{found.strings}",
        f"{found.prompts_equal}/{found.prompts}",
        "<0.0001" if found.mean_kl < 1e-4 else f"{found.mean_kl:.4f}",
        "–" if found.tokens_per_second is None else f"{found.tokens_per_second:,.0f}",
        word,
    )


def _remarks(one: Export) -> list[str]:
    remarks = [one.verdict] if one.failed else []
    remarks += one.notes
    if (found := one.findings) is None:
        return remarks
    if found.other:
        remarks.append(f"First difference: {found.other}. {found.meaning(failed=one.failed)}")
    if found.ties:
        remarks.append(f"Counted as equal, as two tokens tie there: {found.ties}.")
    if found.chats:
        remarks.append(f"Chat template: equal ids for {found.chats_equal} of {found.chats} conversations.")
    remarks.append(
        f"Stop tokens: {found.ends_equal} of {found.ends} texts end where the original ends them."
        if found.ends
        else "Stop tokens: not tried, as the model surely ends none of the texts."
    )
    if found.greedy_tokens < 32:
        remarks.append(f"Greedy: {found.greedy_tokens} tokens after each prompt, as no more fit the context.")
    if found.past_window is False:
        remarks.append("No text was longer than the attention window: what it does was not tried.")
    remarks.append(f"Mean KL: nats, over {found.positions} positions.")
    return remarks
