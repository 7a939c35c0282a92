"""The planner in one call: survey the text, measure the machine, choose a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tinyslm.core.config import build_config, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.data.documents import Notify, Progress, silent
from tinyslm.data.shards import Shards, given_shards
from tinyslm.data.text import Text
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.hardware.limits import memory_bytes
from tinyslm.planning.choice import Budget, Search
from tinyslm.planning.cost import SECONDS, MachineCosts, measure_costs
from tinyslm.planning.law import read_law
from tinyslm.planning.plan import Plan
from tinyslm.planning.survey import Survey, survey_shards, survey_text
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import LoopConfig, RunConfig

FREE_SHARE = 0.9
"""Share of the free memory that a plan may use if no limit is given."""


@dataclass(frozen=True)
class Planner:
    """Makes plans for one text on one machine."""

    survey: Survey
    costs: MachineCosts
    search: Search

    @classmethod
    def look(
        cls,
        source: Sequence[str] | Text,
        given: Mapping[str, Any] | None = None,
        *,
        tokenizer: Tokenizer | None = None,
        seconds: float = SECONDS,
        progress: Progress = silent,
        notify: Notify = silent,
    ) -> "Planner":
        """Survey the text of paths, of one shards folder, or a `Text`; measure the machine for about `seconds`.

        given: the settings that the user fixed, nested. notify: called with a warning for each kind of skipped or
        guessed input. Raises `TinyslmError` if there is too little text, or if no model is possible with the settings.
        """
        given = _without_length(given or {})
        base = build_config(RunConfig, given)
        pick_dtype(pick_device(base.train.device), base.train.dtype)
        if not isinstance(source, Text) and "-" in source:
            raise TinyslmError(
                "Standard input can be read only once, so no plan can be made from it.",
                "Save it in a file first, or train without a plan: give --model.dim and --model.depth.",
            )
        if not isinstance(source, Text) and (folder := given_shards(source)):
            survey = survey_shards(Shards.open(folder))
        else:
            wanted = base.tokenizer if "tokenizer" in given else None
            survey = survey_text(
                source, base.data, tokenizer=tokenizer, wanted=wanted, progress=progress, notify=notify
            )
        progress("measure the machine", 0, 0)
        costs = measure_costs(base.train.device, base.train.dtype, seconds=seconds)
        return cls(survey, costs, Search(survey, costs, read_law(), given))

    def plan(self, budget: Budget) -> Plan:
        """The best plan within a budget; if it does not limit the memory, within the free memory.

        Raises `TinyslmError` if no model fits.
        """
        limit = budget.memory_bytes or int(FREE_SHARE * _free_bytes(self.costs.device))
        chosen = self.search.choose(budget.model_copy(update={"memory_bytes": limit}))
        return Plan.of(chosen, self.survey, self.costs)


def make_plan(
    paths: Sequence[str | Path],
    *,
    minutes: float | None = 10.0,
    tokens: int | None = None,
    parameters: int | None = None,
    memory_bytes: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan a training run on the text in `paths` (or on one shards folder) without training.

    settings: fixed settings, nested: `{"model": {"context": 512}}`. To train with the plan:
    `train(paths, out, settings=plan.settings)`. Raises `TinyslmError` for unusable text or settings, and if no model
    fits the budget.
    """
    planner = Planner.look([str(path) for path in paths], settings)
    budget = {"minutes": minutes, "tokens": tokens, "parameters": parameters, "memory_bytes": memory_bytes}
    return planner.plan(build_config(Budget, budget, origin="the budget"))


def _without_length(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the length of the run, which the budget determines."""
    train = {key: value for key, value in given.get("train", {}).items() if key not in LoopConfig.one_of}
    rest = {key: value for key, value in given.items() if key != "train"}
    return merge(rest, {"train": train}) if train else rest


def _free_bytes(device: str) -> int:
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return memory_bytes()[1]
