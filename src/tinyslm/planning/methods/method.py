"""A method of `finetune`: the stage that it runs, its usual settings, and how it prepares examples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.pipeline import Watch

LENGTHS = {"steps", "tokens", "minutes"}


@dataclass(frozen=True)
class ExampleFiles:
    """Files of examples; see `read_conversations`.

    valid: files to validate on; by default 5 % of the examples are held out. fields: the names of the rows' fields, if
    they are not the usual ones. epochs: passes over the examples, if the run has no other length. lint: what the checks
    of the examples do: "error": stop the run at errors; "warn": only report them, and skip rows that cannot be used;
    "off": no checks.
    """

    paths: Sequence[str | Path]
    valid: Sequence[str | Path] = ()
    fields: Mapping[str, str] | None = None
    epochs: float | None = None
    lint: Literal["error", "warn", "off"] = "error"


@dataclass(frozen=True)
class Job:
    """What a method prepares a run from.

    base: the model folder to start from. tokenizer: the base's, with a chat template. out: the data folder to write.
    given: the settings that the caller gave, which are in `config` too; a method overrides none of them.
    """

    base: Path
    tokenizer: Tokenizer
    config: RunConfig
    files: ExampleFiles
    out: Path
    given: Mapping[str, Any]
    watch: Watch

    @property
    def open_length(self) -> bool:
        """Whether the number of updates is still to be chosen."""
        return not self.config.train.minutes and LENGTHS.isdisjoint(self.given.get("train", {}))


@dataclass(frozen=True)
class Prepared:
    """Prepared examples: the settings of the run, fitted to them, and how many were skipped, by reason.

    rows: of an epoch, 0 if the run has no epochs. learned_tokens: in the examples, 0 if that does not decide the rank.
    """

    config: RunConfig
    left_out: Mapping[str, int]
    rows: int = 0
    learned_tokens: int = 0


@dataclass(frozen=True)
class Method:
    """stage: the name in `STAGES`. settings: the usual ones, where they differ from those of the other methods.

    rates: the usual peak learning rates for adapters and for all weights. prepare: writes the data folder, whole or not
    at all, and raises `TinyslmError` for examples that cannot be used. needed: the fields that a map must name.
    sections: the sections of settings that only some methods read, and this one does.
    """

    stage: str
    rates: tuple[float, float]
    prepare: Callable[[Job], Prepared]
    settings: Mapping[str, Any] = field(default_factory=dict)
    needed: frozenset[str] = frozenset({"prompt", "answer"})
    sections: frozenset[str] = frozenset()
