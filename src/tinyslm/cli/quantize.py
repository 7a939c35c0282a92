"""`tinyslm quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tinyslm.compression.config import QuantizeConfig

if TYPE_CHECKING:
    from tinyslm.compression.judging import Judgement
    from tinyslm.compression.report import Report, Row


def quantize(
    model: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    config: Annotated[QuantizeConfig | None, Parameter(name="*")] = None,
    json: bool = False,
) -> None:
    """Write a model in fewer bits, and say what that changed.

    The table shows the original, plain rounding to nearest, and what each further step made of it; the last row is what
    was written. Every verb reads the folder. The report is in it too, as `quantization.json`.

    Parameters
    ----------
    model
        A model folder, or a run folder (its model is used).
    out
        The model folder to write; it must not exist.
    config
        How it is quantized.
    json
        Print the report as JSON.
    """
    from contextlib import nullcontext
    from dataclasses import asdict
    from json import dumps

    from tinyslm.cli.pull import pulled
    from tinyslm.compression.quantizing import quantize as quantize_model
    from tinyslm.core.console import say, warn, work_progress
    from tinyslm.data.documents import silent

    model = pulled(model)
    with nullcontext(silent) if json else work_progress(f"Quantizing {model}") as progress:
        report = quantize_model(model, out, config, notify=warn if json else say, progress=progress)
    if json:
        say(dumps(asdict(report)))
    else:
        _show(report, out)


def _show(report: Report, out: Path) -> None:
    from tinyslm.core.console import say, table
    from tinyslm.core.quantities import counted

    header = (
        "",
        "size",
        "bits/w",
        "bits/B",
        "change",
        "KL",
        "read/s",
        "write/s",
    )
    say()
    table([_cells(row) for row in report.rows], header)
    say("\nbits/w: bits per weight. bits/B: bits per byte of text. read/s, write/s: tokens per second.")
    if report.heldout_tokens:
        say(
            f"Judged by {report.heldout_tokens:,} held-out tokens; the change of bits per byte with its 95 % interval "
            "over documents, if there are several. KL: to the original's predictions, nats per token."
        )
    else:
        say("No text was given, so nothing was judged by it: --valid TEXT does.")
    if (tuned := report.finetuning) is not None:
        change = f"KL {tuned.kl_before:.4f} to {tuned.kl_after:.4f} on training text"
        say(f"Fine-tuned for {counted(tuned.steps, 'step')}: {change}.")
        if tuned.interrupted:
            say("The fine-tuning was ended early; the best so far was kept.")
    say(f"Model folder: {out}")


def _cells(row: Row) -> tuple[str, ...]:
    from tinyslm.core.quantities import size

    judgement, speed = row.judgement, row.speed
    return (
        row.name,
        size(row.bytes),
        f"{row.bits_per_weight:.2f}",
        "–" if row.bits_per_byte is None else f"{row.bits_per_byte:.4f}",
        "–" if judgement is None else _change(judgement),
        "–" if judgement is None else f"{judgement.kl:.4f}",
        "–" if speed is None or speed.prefill is None else f"{speed.prefill:,.0f}",
        "–" if speed is None or speed.decode is None else f"{speed.decode:,.0f}",
    )


def _change(judgement: Judgement) -> str:
    """With its interval, which one document does not have."""
    change = f"{judgement.change:+.2%}"
    if judgement.low == judgement.high:
        return change
    return f"{change} ({judgement.low * 100:+.2f} to {judgement.high * 100:+.2f})"
