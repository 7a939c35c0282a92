"""`tinyslm tokenizer train`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from tinyslm.cli.options import SettingOptions
from tinyslm.core.config import Section


class TrainOptions(Section):
    """What to learn, and from what."""

    kind: str | None = Field(
        default=None,
        description='"bpe" (the default) learns frequent byte sequences; "unigram" the likeliest pieces of words; '
        '"wordpiece" frequent byte sequences, of which it takes the longest first; "char" has a token for each '
        'character, "byte" one for each byte. Short for --tokenizer.kind.',
    )
    vocab_size: int | None = Field(
        default=None,
        description="Number of tokens, a multiple of 64; 0 (the default): 4096, or as many as the text supports. Short "
        "for --tokenizer.vocab_size.",
    )
    exclude: Annotated[tuple[str, ...], Parameter(negative=())] = Field(
        default=(),
        description='Files and folders to leave out, such as "*.log"; can be repeated. Short for --data.exclude.',
    )
    plugin: Annotated[tuple[str, ...], Parameter(negative=())] = Field(
        default=(), description="A Python file that adds a kind of tokenizer; can be repeated."
    )


def train(
    *paths: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    config: Annotated[Path | None, Parameter(name=["--config", "-c"])] = None,
    json: bool = False,
    options: Annotated[TrainOptions | None, Parameter(name="*")] = None,
    settings: SettingOptions = (),
) -> None:
    """Train a tokenizer on text, for use with `tinyslm data prepare --tokenizer` and `tinyslm train --tokenizer`.

    What is already there for the same inputs is not made again.

    Parameters
    ----------
    paths
        Files, folders and globs of text, also in object storage (`s3://BUCKET/FOLDER`), `-` for standard input,
        `hf://NAME` for a dataset.
    out
        The folder to write the tokenizer to.
    config
        A TOML or YAML file of settings.
    json
        Print where the tokenizer is, and how large, as JSON.
    options
        What to learn, and from what.
    settings
        A setting of the sections `data` and `tokenizer`, as `--section.key value`.
    """
    from tinyslm.cli.settings import settings as read_settings
    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say, warn
    from tinyslm.core.plugins import load_plugins
    from tinyslm.data.vocabulary import make_tokenizer
    from tinyslm.training.config import RunConfig

    options = options or TrainOptions()
    if options.plugin:
        load_plugins(options.plugin)
    if options.kind is not None:
        settings = (*settings, f"tokenizer.kind={options.kind}")
    if options.vocab_size is not None:
        settings = (*settings, f"tokenizer.vocab_size={options.vocab_size}")
    settings = (*settings, *(f"data.exclude={pattern}" for pattern in options.exclude))
    chosen = read_settings(RunConfig, config, settings)
    made = make_tokenizer(paths, out, tokenizer=chosen.tokenizer, config=chosen.data, notify=warn)
    if json:
        tell({"tokenizer": out, "vocab_size": made.vocab_size})
        return
    say(f"Tokenizer with {made.vocab_size:,} tokens: {out}")
