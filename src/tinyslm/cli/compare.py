"""`tinyslm compare`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def compare(
    *models: Path,
    text: tuple[str, ...] = (),
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    tokens: int | None = None,
    dtype: str = "fp32",
    threads: int = 0,
    json: bool = False,
) -> None:
    """Compare models in size, quality and speed: folders, quantized ones too, and what was exported from them.

    Parameters
    ----------
    models
        Model folders, run folders, GGUF files, and folders that `tinyslm export --to onnx` wrote. An export comes after
        the model folder that it was made from. Changes are against the first.
    text
        Text that none of them was trained on, as for `tinyslm train`; may be given several times.
    out
        A folder to write a page, pictures and JSON to.
    tokens
        How many tokens are scored; the default is 8,192, or 512 where there is a GGUF file, which takes longer.
    dtype
        Number format that model folders compute in: fp32, or bf16.
    threads
        How many threads to compute with; 0: as many as OMP_NUM_THREADS says, or all cores.
    json
        Print the figures as JSON.
    """
    from dataclasses import asdict
    from textwrap import fill

    from tinyslm.cli.export import read_texts
    from tinyslm.cli.telling import tell, working
    from tinyslm.core.console import say, table
    from tinyslm.core.errors import TinyslmError
    from tinyslm.export.comparing import compare_models
    from tinyslm.export.comparison_page import HEADER, LEGEND, cells, check_unused, measured_on, write_comparison
    from tinyslm.hardware.device import pick_device, pick_dtype
    from tinyslm.hardware.limits import thread_count

    if tokens is not None and tokens < 1:
        raise TinyslmError(f"{tokens} tokens cannot be scored.", "Give --tokens a number from 1 on.")
    if out is not None:
        check_unused(out)
    texts = read_texts(text)
    with working(f"Comparing {len(models)} models", json=json) as progress:
        comparison = compare_models(
            models,
            texts,
            dtype=pick_dtype(pick_device("cpu"), dtype),
            tokens=tokens,
            threads=thread_count(threads),
            progress=progress,
        )
    page = None if out is None else write_comparison(comparison, out)
    if json:
        tell(asdict(comparison))
        return
    say()
    table([cells(model) for model in comparison.models], HEADER)
    say("\n" + fill(f"{measured_on(comparison)} {LEGEND}", 79))
    if page is not None:
        say(f"\nPage and pictures: {page}")
