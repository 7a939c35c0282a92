"""`tinyslm tokenizer compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from tinyslm.inspection.tokenizers import TokenizerComparison, TokenizerReport

WIDTH = 78


def compare(
    *tokenizers: str,
    text: tuple[str, ...] = (),
    params: str = "10M",
    sample: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True)] = (),
    exclude: tuple[str, ...] = (),
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    json: bool = False,
) -> None:
    """Compare tokenizers on a text: bytes per token, words, unused vocabulary, embeddings, speed, faults, and pieces.

    At most 2 MB of the text are measured. Nothing is written unless `--out` asks for a page.

    Parameters
    ----------
    tokenizers
        Folders of tokenizers or models, and kinds to train on a part of the text that is not measured, such as
        `bpe:4096` or `byte`. Settings of the section `tokenizer` may follow: `bpe:4096,NAME=VALUE`.
    text
        Text to measure on, as for `tinyslm train`; may be given several times.
    params
        The size of the model whose share of embeddings is computed.
    sample
        A further text to show cut into pieces, or `@FILE`; may be given several times.
    exclude
        Files and folders to leave out, such as `"*.log"`; can be repeated.
    out
        An HTML file to write the comparison to; it needs no server and fetches nothing.
    json
        Print the figures as JSON.
    """
    from tinyslm.cli.asking import given_text
    from tinyslm.cli.planning import number
    from tinyslm.cli.telling import tell, working
    from tinyslm.core.console import say, warn
    from tinyslm.core.errors import TinyslmError
    from tinyslm.core.files import write_atomic
    from tinyslm.data.config import DataConfig
    from tinyslm.inspection.tokenizers import compare_tokenizers
    from tinyslm.inspection.tokenizers_page import tokenizers_page

    if not text:
        raise TinyslmError("No text to measure on was given.", "Give some: --text FOLDER")
    if out is not None and out.exists():
        raise TinyslmError(f"{out} exists already.", "Give another name: nothing is written over.")
    size, samples = number(params, "--params"), tuple(map(given_text, sample))
    with working("Measuring tokenizers", json=json, unit="{:,.0f}".format) as progress:
        comparison = compare_tokenizers(
            text,
            tokenizers,
            parameters=size,
            samples=samples,
            config=DataConfig(exclude=exclude),
            notify=warn,
            progress=progress,
        )
    if out is not None:
        write_atomic(out, tokenizers_page(comparison))
    if json:
        tell({**comparison.as_json(), "page": out})
        return
    _print(comparison)
    if out is not None:
        say(f"\nPage: {out}")


def _print(comparison: TokenizerComparison) -> None:
    from textwrap import fill

    from tinyslm.core.console import say, table
    from tinyslm.inspection.tokenizers import described
    from tinyslm.inspection.tokenizers_page import RESTORED, UNUSED, WORDS, faults, short_names, tables

    names = short_names(comparison)
    for (title, one), legend in zip(tables(comparison), ("", f"{WORDS} {UNUSED}", RESTORED), strict=True):
        say()
        table([(name, *row) for name, row in zip(names, one.rows, strict=True)], (title, *one.header))
        if legend:
            say(fill(legend, WIDTH))
    for fault in faults(comparison):
        say(fill(fault, WIDTH, subsequent_indent="  "))
    _print_cuts(comparison.reports, names)
    say("\n" + fill(described(comparison), WIDTH))


def _print_cuts(reports: Sequence[TokenizerReport], names: Sequence[str]) -> None:
    from tinyslm.core.console import PIECES, say, say_styled
    from tinyslm.inspection.pieces import styled_pieces

    for number, cut in enumerate(reports[0].cuts):
        say(f"\n{cut.name.capitalize()}")
        for name, one in zip(names, reports, strict=True):
            tokens = one.cuts[number].tokens
            say(f"  {name}: {len(tokens)} tokens")
            for line in styled_pieces(tokens, WIDTH - 2):
                say_styled([("  ", ""), *line])
    say()
    say_styled([("Kinds: ", ""), *((kind, f"{kind} 0") for kind in PIECES)])
