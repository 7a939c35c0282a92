"""`tinyslm tokenizer train`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def train(
    *paths: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    kind: str = "bpe",
    vocab_size: int = 0,
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
        "bpe" learns frequent byte sequences; "char" has a token for each character, "byte" one for each byte.
    vocab_size
        Number of tokens, a multiple of 64; 0: 4096, or as many as the text supports.
    """
    from tinyslm.core.config import build_config
    from tinyslm.core.console import say, warn
    from tinyslm.data.vocabulary import make_tokenizer
    from tinyslm.tokenizer.config import TokenizerConfig

    wanted = build_config(TokenizerConfig, {"kind": kind, "vocab_size": vocab_size})
    made = make_tokenizer(paths, out, tokenizer=wanted, notify=warn)
    say(f"Tokenizer with {made.vocab_size:,} tokens: {out}")
