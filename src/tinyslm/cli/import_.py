"""`tinyslm import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def import_(
    file: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    dtype: str = "auto",
    json: bool = False,
) -> None:
    """Make a model folder from a GGUF file: weights, tokenizer, chat template and special tokens.

    Anything in the file that is not understood and could change what the model computes is refused by name.

    Parameters
    ----------
    file
        The GGUF file of a whole model.
    out
        The model folder to write.
    dtype
        Number format of the weights: fp32, bf16 or fp16. auto changes no value: it is bf16 or fp16 for files that have
        their weights so, and fp32 for all others, since halves would round quantized values once more.
    json
        Print what was imported as JSON.
    """
    from tinyslm.cli.pull import introduce, summary_of
    from tinyslm.cli.telling import tell, working
    from tinyslm.core.console import say
    from tinyslm.export.gguf.importing import import_gguf

    with working(f"Importing {file}", json=json) as progress:
        imported = import_gguf(file, out, dtype=dtype, progress=progress)
    if json:
        report = {"dtype": imported.dtype, "tensors": dict(imported.formats)}
        tell({"source": file, **summary_of(imported.folder, imported.config), **report})
        return
    stored = ", ".join(f"{count} as {name}" for name, count in sorted(imported.formats.items()))
    say(f"\n{sum(imported.formats.values())} tensors ({stored}), now in {imported.dtype}.")
    introduce(imported.folder, imported.config)
