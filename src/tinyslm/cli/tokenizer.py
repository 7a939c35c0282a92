"""`tinyslm tokenizer train`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tinyslm.cli.options import SettingOptions


def train(
    *paths: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    kind: str | None = None,
    vocab_size: int | None = None,
    config: Annotated[Path | None, Parameter(name=["--config", "-c"])] = None,
    exclude: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    json: bool = False,
    settings: SettingOptions = (),
) -> None:
    """Train a tokenizer on text, for use with `tinyslm data prepare --tokenizer` and `tinyslm train --tokenizer`.

    What is already there for the same inputs is not made again.

    Parameters
    ----------
    paths
        Files, folders and globs of text, `-` for standard input, `hf://NAME` for a dataset.
    out
        The folder to write the tokenizer to.
    kind
        "bpe" (the default) learns frequent byte sequences; "char" has a token for each character, "byte" one for each
        byte. Short for `--tokenizer.kind`.
    vocab_size
        Number of tokens, a multiple of 64; 0 (the default): 4096, or as many as the text supports. Short for
        `--tokenizer.vocab_size`.
    config
        A TOML or YAML file of settings.
    exclude
        Files and folders to leave out, such as `"*.log"`; can be repeated. Short for `--data.exclude`.
    json
        Print where the tokenizer is, and how large, as JSON.
    settings
        A setting of the sections `data` and `tokenizer`, as `--section.key value`.
    """
    from tinyslm.cli.settings import settings as read_settings
    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say, warn
    from tinyslm.data.vocabulary import make_tokenizer
    from tinyslm.training.config import RunConfig

    if kind is not None:
        settings = (*settings, f"tokenizer.kind={kind}")
    if vocab_size is not None:
        settings = (*settings, f"tokenizer.vocab_size={vocab_size}")
    settings = (*settings, *(f"data.exclude={pattern}" for pattern in exclude))
    chosen = read_settings(RunConfig, config, settings)
    made = make_tokenizer(paths, out, tokenizer=chosen.tokenizer, config=chosen.data, notify=warn)
    if json:
        tell({"tokenizer": out, "vocab_size": made.vocab_size})
        return
    say(f"Tokenizer with {made.vocab_size:,} tokens: {out}")
