"""A method of `finetune`: its stage, its default settings, and the preparation of examples."""

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

    valid: files to validate on; by default, some of the examples are held out (see `held_out_numbers`). fields: the
    names of the rows' fields, if they are not the usual ones. epochs: passes over the examples, if the run has no other
    length. lint: "error": errors stop the run; "warn": errors are only reported, and unusable rows skipped; "off": no
    checks.
    """

    paths: Sequence[str | Path]
    valid: Sequence[str | Path] = ()
    fields: Mapping[str, str] | None = None
    epochs: float | None = None
    lint: Literal["error", "warn", "off"] = "error"


@dataclass(frozen=True)
class Job:
    """The inputs of a method's `prepare`.

    base: the model folder to start from. tokenizer: the base's, with a chat template. out: the data folder to write.
    given: the caller's settings, which are in `config` too and must not be overridden.
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
        """Whether the method chooses the number of updates."""
        return not self.config.train.minutes and LENGTHS.isdisjoint(self.given.get("train", {}))


@dataclass(frozen=True)
class Prepared:
    """The settings of the run, fitted to the prepared examples, and the number of skipped examples by reason.

    rows: per epoch, 0 if the run has no epochs. learned_tokens: in the examples, 0 if they do not determine the rank.
    """

    config: RunConfig
    left_out: Mapping[str, int]
    rows: int = 0
    learned_tokens: int = 0


USUAL_PARAMETERS = 135_000_000
"""The size of the model that the rates for all weights were chosen with. The best rate falls with the size of a model
roughly as its root: with 2 M parameters, eight times this size's is better than this size's (docs/LOG.md)."""


@dataclass(frozen=True)
class Method:
    """stage: the name in `STAGES`. settings: defaults that differ from those of other methods.

    rates: default peak learning rates for adapters and for all weights. prepare: writes the data folder, whole or not
    at all, and raises `TinyslmError` for unusable examples. needed: the fields that a map must name. sections: the
    sections of settings that this method reads, of those that not all methods read. small_models_faster: whether
    all weights of a model smaller than `USUAL_PARAMETERS` are taught with a higher rate.
    """

    stage: str
    rates: tuple[float, float]
    prepare: Callable[[Job], Prepared]
    settings: Mapping[str, Any] = field(default_factory=dict)
    needed: frozenset[str] = frozenset({"prompt", "answer"})
    sections: frozenset[str] = frozenset()
    small_models_faster: bool = False

    def rate(self, parameters: int, *, adapters: bool) -> float:
        """The default peak learning rate for a model with this many parameters."""
        if adapters or not self.small_models_faster:
            return self.rates[0 if adapters else 1]
        larger = self.rates[1] * max(1.0, (USUAL_PARAMETERS / parameters) ** 0.5)
        return float(f"{min(larger, self.rates[0]):.1g}")
