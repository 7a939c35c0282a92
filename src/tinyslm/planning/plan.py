"""The plan of a run: settings and predictions, in a file of the run folder that the user can read and edit.

The user may edit the settings in `plan.toml`; when it is read, the predictions are computed again from the settings,
the survey of the text and the costs of the machine, which are in the file too.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from tinyslm.core.config import Section, build_config, differences, fields, flatten, merge, override, read_config_file
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_atomic
from tinyslm.core.toml import toml_table
from tinyslm.planning.choice import Budget, Candidate, Choice
from tinyslm.planning.cost import MachineCosts
from tinyslm.planning.law import Law, conditions, read_law
from tinyslm.planning.survey import Survey
from tinyslm.training.config import LoopConfig, RunConfig
from tinyslm.training.memory import planned_peak_bytes

FILE = "plan.toml"
ALWAYS = (
    "model.dim",
    "model.depth",
    "model.context",
    "model.dropout",
    "tokenizer.kind",
    "tokenizer.vocab_size",
    "optimizer.muon_lr",
    "optimizer.muon_momentum",
    "optimizer.lr",
    "optimizer.weight_decay",
    "schedule.warmup",
    "schedule.decay",
    "train.batch",
    "train.micro_batch",
)
"""Settings that every plan file lists; others are listed only if they differ from the values that these imply."""


class Expectation(Section):
    """The predicted cost and score of a run."""

    bits_per_byte: float = Field(description="Validation bits per byte.")
    low: float = Field(description="Lower end of the 95 % interval.")
    high: float = Field(description="Upper end of the 95 % interval.")
    seconds: float = Field(description="Time of the run, from reading the text to the report.")
    steps: int = Field(description="Updates.")
    tokens: int = Field(description="Tokens read in all epochs.")
    epochs: float = Field(description="Epochs: how often the text is read.")
    parameters: int = Field(description="Parameters of the model.")
    memory_bytes: int = Field(description="Peak memory of the process, on a CPU.")


class Plan(Section):
    """The settings of a run, the predictions for them, and the measurements behind these."""

    expectation: Expectation = Field(description="The predictions.")
    settings: RunConfig = Field(description="The settings of the run.")
    data: Survey = Field(description="The survey of the text.")
    machine: MachineCosts = Field(description="The costs of the machine.")

    @classmethod
    def of(cls, choice: Choice, survey: Survey, costs: MachineCosts) -> "Plan":
        """The plan for a choice."""
        return cls(expectation=_expectation(choice, survey), settings=choice.config, data=survey, machine=costs)

    @property
    def budget(self) -> Budget:
        """The time limit of the settings, else their number of tokens."""
        minutes = self.settings.train.minutes
        return Budget(minutes=minutes) if minutes else Budget(tokens=self.expectation.tokens)

    def toml(self) -> str:
        """The plan as TOML: first the predictions, then the settings, then the measurements behind them."""
        lines = [
            "# A plan of tinyslm. To train with it: tinyslm train DATA --plan THIS_FILE --out RUN",
            "# You may edit [settings.*]; the expectation is computed again when the plan is read.",
            "",
            *toml_table("expectation", self.expectation.model_dump(), _comments(Expectation)),
        ]
        descriptions = {key: field.description or "" for key, field in fields(RunConfig)}
        for section, values in _needed(self.settings).items():
            prefix = f"{section}."
            comments = {key.removeprefix(prefix): text for key, text in descriptions.items() if key.startswith(prefix)}
            lines += ["", *toml_table(f"settings.{section}", values, comments)]
        data, tables = self.data.model_dump(), []
        for name in ("bytes_per_token", "held_out_bytes_per_token"):
            lengths = {str(size): length for size, length in data.pop(name).items()}
            comment = Survey.model_fields[name].description
            tables += ["", f"# {comment}", *toml_table(f"data.{name}", lengths, {})]
        lines += ["", *toml_table("data", data, _comments(Survey)), *tables]
        lines += ["", *toml_table("machine", self.machine.model_dump(), _comments(MachineCosts))]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """Write the plan as TOML, atomically."""
        write_atomic(path, self.toml())


def read_plan(path: Path, changes: Mapping[str, Any] | None = None) -> Plan:
    """Read a plan file, and compute its predictions again. changes: settings that override those in the file.

    Raises `TinyslmError` for a file that is not a plan, or naming every mistake in it.
    """
    values = read_config_file(path, "--plan")
    if missing := [name for name in ("settings", "data", "machine") if name not in values]:
        raise TinyslmError(
            f"{path} is not a plan: it has no section [{missing[0]}].",
            "Give the plan.toml of a run, or make one with `tinyslm plan`; --config takes a file of settings alone.",
        )
    values = {name: value for name, value in values.items() if name != "expectation"}
    settings = override(RunConfig, values["settings"], changes or {})
    config = _built(settings, origin=f"[settings] of {path}")
    rest = {name: value for name, value in values.items() if name != "settings"}
    measured = build_config(_Measurements, rest, str(path))
    choice = expected_of(config, measured.data, measured.machine, read_law())
    return Plan.of(choice, measured.data, measured.machine)


class _Measurements(Section):
    """The measurements behind a plan."""

    data: Survey = Field(description="The survey of the text.")
    machine: MachineCosts = Field(description="The costs of the machine.")


def expected_of(config: RunConfig, survey: Survey, costs: MachineCosts, law: Law) -> Choice:
    """Predict the duration and the score of fixed settings."""
    one, train = Candidate.of(config, survey, costs), config.train
    if train.minutes:
        steps = one.steps(60 * train.minutes)
    else:
        steps = train.steps or math.ceil(train.tokens / one.tokens_per_update)
    expected = law.expect(conditions(survey, config.model, config.train.batch, steps))
    return Choice(config, steps, one.seconds(steps), expected)


def _expectation(choice: Choice, survey: Survey) -> Expectation:
    config = choice.config
    tokens = choice.steps * config.train.batch * config.model.context
    bytes_read = tokens * survey.bytes_in_token(config.model.vocab_size)
    bits, low, high = (round(value, 4) for value in choice.expected)
    return Expectation(
        bits_per_byte=bits,
        low=low,
        high=high,
        seconds=round(choice.seconds, 1),
        steps=choice.steps,
        tokens=tokens,
        epochs=round(bytes_read / survey.training_bytes, 3),
        parameters=config.model.parameters,
        memory_bytes=planned_peak_bytes(config),
    )


def _built(settings: Mapping[str, Any], origin: str = "the settings") -> RunConfig:
    """Build settings. The model's vocabulary, unless given, has the size that its tokenizer will have."""
    config = build_config(RunConfig, settings, origin)
    known = config.tokenizer.known_size
    if not known or "vocab_size" in settings.get("model", {}):
        return config
    return build_config(RunConfig, merge(config.model_dump(), {"model": {"vocab_size": known}}))


def _needed(config: RunConfig) -> dict[str, dict[str, Any]]:
    """The settings, by section, that imply all others: `ALWAYS`, and those that differ from the implied values."""
    everything = dict(flatten(config.model_dump()))
    names = [*ALWAYS, *(f"train.{name}" for name in LoopConfig.one_of if getattr(config.train, name))]
    while True:
        values: dict[str, Any] = {}
        for name in names:
            section, _, key = name.rpartition(".")
            values.setdefault(section, {})[key] = everything[name]
        built = _built(_nested(values))
        missing = [line.partition(":")[0] for line in differences(built, config)]
        if not missing:
            return values
        assert not set(missing) <= set(names), f"these settings do not hold: {missing}"
        names += [name for name in missing if name not in names]


def _nested(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Convert `{"model.rope_scaling": {...}}` to `{"model": {"rope_scaling": {...}}}`."""
    nested: dict[str, Any] = {}
    for name, values in sections.items():
        inner: Any = dict(values)
        for part in reversed(name.split(".")):
            inner = {part: inner}
        nested = merge(nested, inner)
    return nested


def _comments(kind: type[BaseModel]) -> dict[str, str]:
    return {name: field.description or "" for name, field in kind.model_fields.items()}


def plan_of(folder: Path) -> Plan | None:
    """The plan in a run folder, or None if there is no readable one."""
    try:
        return read_plan(folder / FILE) if (folder / FILE).is_file() else None
    except TinyslmError:
        return None
