"""How the verbs `train` and `quickstart` begin a run: what is left open is planned, and the text read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyslm.data.text import Text
    from tinyslm.training.config import RunConfig
    from tinyslm.training.planning.plan import Plan
    from tinyslm.training.run import Run

MEASURING_SHARE = 0.03
"""Of a run's time, what measuring the machine may take."""


@dataclass(frozen=True)
class Order:
    """What the user asked for.

    given: the settings that are fixed, nested. config: the same with their defaults. plan: a file to train by. params,
    memory: limits of a plan. begun: when the program began, by the monotonic clock.
    """

    paths: Sequence[str]
    out: Path
    given: Mapping[str, Any]
    config: RunConfig
    begun: float
    tokenizer: Path | None = None
    plan: Path | None = None
    params: str | None = None
    memory: float | None = None
    json: bool = False


def begin(order: Order) -> Run:
    """Prepare the text and begin the run: by the plan in a file, by one that is made now, or by the settings alone."""
    from tinyslm.cli.planning import is_to_be_planned
    from tinyslm.core.errors import TinyslmError
    from tinyslm.training.pipeline import refuse_impossible
    from tinyslm.training.planning.plan import read_plan

    refuse_impossible(order.out, order.config)
    if order.plan is not None:
        return _start(order, order.paths, _told(read_plan(order.plan, order.given), order))
    if is_to_be_planned(order.paths, order.given, order.config):
        with ExitStack() as kept:
            source, plan = _planned(order, kept)
            return _start(order, source, _told(plan, order))
    if order.params or order.memory:
        raise TinyslmError(
            "--params and --memory are for planning a model, and this one's shape or length is given.",
            "Leave them out, or leave out --model.dim, --model.depth and --train.steps.",
        )
    return _start(order, order.paths, None)


def _planned(order: Order, kept: ExitStack) -> tuple[Sequence[str] | Text, Plan]:
    """The text as it was read (or the shards that there are), which is `kept` for a while, and a plan for it."""
    from tinyslm.cli.planning import budget
    from tinyslm.cli.telling import working
    from tinyslm.data.shards import is_shards
    from tinyslm.data.text import Inputs, reading
    from tinyslm.tokenizer.tokenizer import Tokenizer
    from tinyslm.training.planning.cost import SECONDS
    from tinyslm.training.planning.planner import Planner

    wanted = budget(order.config, order.params, order.memory)
    known = Tokenizer.load(order.tokenizer) if order.tokenizer else None
    seconds = SECONDS if wanted.minutes is None else min(SECONDS, MEASURING_SHARE * 60 * wanted.minutes)
    source: Sequence[str] | Text = order.paths
    with working("Planning", json=order.json) as progress:
        if not (len(order.paths) == 1 and is_shards(Path(order.paths[0]))):
            inputs = Inputs.find(order.paths, order.config.data, order.out)
            source = kept.enter_context(reading(inputs, progress))
        planner = Planner.look(source, order.given, tokenizer=known, seconds=seconds, progress=progress)
        return source, planner.plan(wanted)


def _told(plan: Plan, order: Order) -> Plan:
    """The plan, said in two lines."""
    from tinyslm.cli.planning import describe_plan
    from tinyslm.core.console import say

    if not order.json:
        say(describe_plan(plan))
    return plan


def _start(order: Order, source: Sequence[str] | Text, plan: Plan | None) -> Run:
    from time import monotonic

    from tinyslm.cli.telling import working
    from tinyslm.core.console import say, warn
    from tinyslm.tokenizer.tokenizer import Tokenizer
    from tinyslm.training.pipeline import start
    from tinyslm.training.planning.plan import FILE

    config = plan.settings if plan else order.config
    tokenizer = Tokenizer.load(order.tokenizer) if order.tokenizer else None
    with working("Preparing the text", json=order.json) as progress:
        spent = monotonic() - order.begun
        run = start(source, order.out, config=config, tokenizer=tokenizer, notify=warn, progress=progress, spent=spent)
    if plan:
        plan.write(order.out / FILE)
    if not order.json:
        say(describe_data(run.shards.manifest))
    return run


def describe_data(manifest: Mapping[str, Any]) -> str:
    """One line: how much text, in how many tokens."""
    from tinyslm.core.quantities import count, size

    train, valid = manifest["splits"]["train"], manifest["splits"]["valid"]
    return (
        f"{train['documents']:,} documents ({size(train['utf8_bytes'])}, {count(train['tokens'])} tokens) to train on, "
        f"{valid['documents']:,} ({size(valid['utf8_bytes'])}) to validate on; "
        f"vocabulary {manifest['tokenizer']['vocab_size']:,}."
    )
