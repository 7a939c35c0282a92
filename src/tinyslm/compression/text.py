"""The text that `quantize` learns from and evaluates on, in the model's own tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyslm.compression.config import QuantizeConfig
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import read_manifest
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Notify, Progress
from tinyslm.data.example_shards import as_shards
from tinyslm.data.examples import is_examples
from tinyslm.data.prepare import prepare
from tinyslm.data.shards import Shards, TokenSplit, given_shards, is_shards
from tinyslm.data.used import data_of
from tinyslm.tokenizer.tokenizer import Tokenizer

LEAST_WINDOWS = 4
"""The least number of windows to learn from."""


def with_learned(config: QuantizeConfig, model: Path, context: int) -> QuantizeConfig:
    """The settings, with the data that the run of a model learned from as `data` if no text is given.

    context: that of the model. Unchanged if the data is not there any more, has no text, or too little.
    """
    if config.data or config.calibrate or config.valid:
        return config
    data = data_of(model)
    if data is None or not (is_shards(data) or is_examples(data)):
        return config
    tokens = read_manifest(data, verify=False)["splits"]["train"]["tokens"]
    return config.model_copy(update={"data": (str(data),)}) if tokens >= least_tokens(context) else config


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
        only = Path(paths[0]) if len(paths) == 1 else None
        if only and is_examples(only):
            return _given(as_shards(only, folder / name), valid, tokenizer)
        if (given := given_shards(paths)) is not None:
            return _given(given, valid, tokenizer)
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


def least_tokens(length: int) -> int:
    """The fewest tokens from which something can be learned, in windows of `length` tokens."""
    return LEAST_WINDOWS * length + 1


def check_length(split: TokenSplit, length: int, use: str) -> None:
    """Raise `TinyslmError` when a text holds too few windows of `length` tokens to learn anything from."""
    least = least_tokens(length)
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
