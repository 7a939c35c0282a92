"""`tinyslm evaluate`."""

from pathlib import Path

from tinyslm.cli.options import SettingOptions


def evaluate(
    model: Path,
    /,
    *paths: str,
    stride: int | None = None,
    dtype: str = "fp32",
    json: bool = False,
    settings: SettingOptions = (),
) -> None:
    """Score a model on text: loss, perplexity, and bits per byte with a 95 % bootstrap interval over documents.

    Parameters
    ----------
    model
        A model folder, or a run folder (its model is used).
    paths
        Text to score, as for `tinyslm train`; or one shards folder, whose validation documents are scored.
    stride
        How far windows move over long documents; the default is the model's context (fastest). Less gives each
        token more to look back at.
    dtype
        Number format to compute in: fp32, or bf16 (faster where the hardware has it, a little less exact).
    json
        Print the scores as JSON.
    settings
        A setting of the section `data`, as `--data.text_column NAME`.
    """
    from contextlib import nullcontext
    from dataclasses import asdict
    from json import dumps

    from tinyslm.cli.settings import settings as read_settings
    from tinyslm.cli.train import describe_score
    from tinyslm.core.console import say, warn, work_progress
    from tinyslm.data.documents import silent
    from tinyslm.evaluation.score import evaluate as score_text
    from tinyslm.model.folder import find_model
    from tinyslm.training.config import RunConfig

    config = read_settings(RunConfig, None, settings).data
    with nullcontext(silent) if json else work_progress("Scoring") as progress:
        score = score_text(
            find_model(model), paths, stride=stride, dtype=dtype, config=config, notify=warn, progress=progress
        )
    say(dumps(asdict(score)) if json else describe_score(asdict(score)))
