"""The text that `quantize` learns from and evaluates on, in the model's own tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyslm.compression.config import QuantizeConfig
from tinyslm.core.errors import TinyslmError
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Notify, Progress
from tinyslm.data.prepare import prepare
from tinyslm.data.shards import Shards, TokenSplit, is_shards
from tinyslm.tokenizer.tokenizer import Tokenizer

LEAST_WINDOWS = 4
"""The least number of windows to learn from."""


@dataclass(frozen=True)
class Texts:
    """Splits to calibrate with, to train on, and to evaluate on; `None` where no text was given."""

    calibration: TokenSplit | None = None
    training: TokenSplit | None = None
    heldout: TokenSplit | None = None


def open_texts(config: QuantizeConfig, tokenizer: Tokenizer, folder: Path, notify: Notify, progress: Progress) -> Texts:
    """The texts that the settings name, each prepared below `folder` unless it is a shards folder.

    The held-out split is the text of `config.valid`, or else a share of the other text's documents.
    """

    def opened(paths: Sequence[str], valid: Sequence[str], name: str) -> Shards:
        if len(paths) == 1 and is_shards(Path(paths[0])):
            return _given(Path(paths[0]), valid, tokenizer)
        wanted = DataConfig(valid_paths=tuple(valid))
        return prepare(paths, folder / name, tokenizer=tokenizer, config=wanted, notify=notify, progress=progress)

    main = config.data or config.calibrate
    if not main:
        # Nothing is trained, so no part of the text needs to be held out: the larger split is evaluated on.
        return Texts(heldout=opened(config.valid, (), "valid").split("train")) if config.valid else Texts()
    shards = opened(main, config.valid, "data")
    separate = config.calibrate and config.calibrate != main
    calibration = opened(config.calibrate, config.valid, "calibrate") if separate else shards
    return Texts(calibration.split("train"), shards.split("train"), shards.split("valid"))


def check_length(split: TokenSplit, length: int, use: str) -> None:
    """Raise `TinyslmError` when a text holds too few windows of `length` tokens to learn anything from."""
    least = LEAST_WINDOWS * length + 1
    if split.tokens < least:
        raise TinyslmError(
            f"The text for {use} has {split.tokens:,} tokens, and at least {least:,} are needed.",
            "Give more text.",
        )


def _given(folder: Path, valid: Sequence[str], tokenizer: Tokenizer) -> Shards:
    if valid:
        raise TinyslmError(f"{folder} holds shards, which have a validation split.", "Leave out --valid.")
    shards = Shards.open(folder)
    if shards.tokenizer.sha256 != tokenizer.without_start().sha256:
        raise TinyslmError(
            f"The shards in {folder} were made with another tokenizer than this model's.",
            "Give the text itself instead.",
        )
    return shards
