"""Scale and budget: what a time buys on this machine, how large a model should be, and where the reader's own lies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.core.page import Bars, Block, Paragraph, Section, Table
from tinyslm.core.quantities import count
from tinyslm.course.blocks import Formula, Widget
from tinyslm.course.chapter import Chapter
from tinyslm.course.subject import Subject
from tinyslm.planning.choice import FEWEST_STEPS, Budget, Search
from tinyslm.planning.cost import CPU_TRIALS, MachineCosts, measure_costs
from tinyslm.planning.law import conditions, predicted_parts, read_law
from tinyslm.planning.plan import Plan, plan_of
from tinyslm.planning.speedup import speedup
from tinyslm.planning.survey import Survey

MINUTES = (1, 2, 5, 10, 30, 60, 120, 480)
FEW = (1, 10, 60, 480)
"""Budgets for which models of all `SIZES` are compared."""
SIZES = tuple(round(3e5 * 2**step) for step in range(9))
PROCESSES = (1, 2, 4, 8)
OTHERS = (
    ("GPT-2", 1.24e8, 0.0),
    ("SmolLM2-135M", 1.35e8, 2e12),
    ("TinyLlama", 1.1e9, 3e12),
    ("Llama 3 8B", 8e9, 1.5e13),
    ("GPT-3", 1.75e11, 3e11),
)
"""Published models: name, parameters, and tokens that they were trained on; 0: not published."""
LIBRARY = "library.json"
"""The survey of the Python standard library, for models whose run has no plan."""
TRIALS, SECONDS = (CPU_TRIALS[1], CPU_TRIALS[3], CPU_TRIALS[4]), 0.2
YEAR = 365.25 * 86_400


@dataclass(frozen=True)
class _Known:
    """What plans are made from. plan: that of the reader's run, if it has one; the others are then its."""

    plan: Plan | None
    survey: Survey
    costs: MachineCosts
    search: Search

    @classmethod
    def of(cls, subject: Subject) -> _Known:
        """From the run's plan, or from the survey of the standard library and a quick look at this machine."""
        if subject.run is not None and (plan := plan_of(subject.run.path)):
            survey, costs = plan.data, plan.machine
        else:
            plan = None
            text = (files("tinyslm.course") / LIBRARY).read_text("utf-8")
            survey, costs = (
                build_config(Survey, json.loads(text), LIBRARY),
                measure_costs(trials=TRIALS, seconds=SECONDS),
            )
        return cls(plan, survey, costs, Search(survey, costs, read_law(), {}))

    def best(self, minutes: float, parameters: int | None = None) -> Plan:
        """The plan for a time, for a model of about this many parameters if that is given."""
        chosen = self.search.choose(Budget(minutes=minutes, parameters=parameters))
        return Plan.of(chosen, self.survey, self.costs)


def _blocks(subject: Subject) -> Iterator[Block]:
    known = _Known.of(subject)
    yield Section("What a minute, an hour and a night buy", tuple(_budgets(subject, known)))
    yield Section("Large or small?", tuple(_sizes(subject, known)))
    yield Section("Where the loss comes from", tuple(_law(known)))
    yield Section("Your model among others", tuple(_others(subject, known)))
    yield Section("More machines", tuple(_machines(known)))


def _budgets(subject: Subject, known: _Known) -> Iterator[Block]:
    yield Paragraph(
        "Training costs time. In a given time, a large model reads little text, and a small one much. The planner of "
        "tinyslm measures the machine and the text, and chooses the model with the lowest expected loss: "
        + (
            "these are its plans for the text of your run, on the machine that planned it."
            if known.plan
            else "these are its plans for the Python standard library on this machine. Your model has no plan: a run "
            "that is given a time (--minutes) has one, and its own text is then used here."
        )
    )
    yield Paragraph(
        "Bits per byte say how well a model predicts text: how many bits each byte costs on average if the model is "
        "used to compress it. 8 is guessing; fewer are better. The shaded area is where 95 % of the runs should end."
    )
    yield Widget(
        "budgets",
        {"plans": [_row(known.best(minutes), minutes) for minutes in MINUTES], "yours": _yours(subject, known)},
        "What each budget buys",
    )
    if known.plan and (result := (subject.run.result() if subject.run else None)) and "bits_per_byte" in result:
        expected = known.plan.expectation
        yield Paragraph(
            f"Your run was expected to reach {expected.bits_per_byte:.3f} bits per byte ({expected.low:.3f} to "
            f"{expected.high:.3f}). It reached {result['bits_per_byte']:.3f}."
        )


def _row(plan: Plan, minutes: float) -> dict[str, Any]:
    model, expected = plan.settings.model, plan.expectation
    return {
        "minutes": minutes,
        "shape": f"{model.dim} x {model.depth}",
        "vocabulary": model.vocab_size,
        "context": model.context,
        "parameters": expected.parameters,
        "tokens": expected.tokens,
        "epochs": expected.epochs,
        "memory": expected.memory_bytes,
        "bits": [expected.bits_per_byte, expected.low, expected.high],
    }


def _yours(subject: Subject, known: _Known) -> dict[str, Any] | None:
    """The place of the reader's model on the curve, if its text is that of the curve."""
    result = subject.run.result() if subject.run else None
    if known.plan is None or result is None or "bits_per_byte" not in result:
        return None
    minutes = known.plan.settings.train.minutes or result["training_seconds"] / 60
    return {"minutes": minutes, "bits": result["bits_per_byte"]}


def _sizes(subject: Subject, known: _Known) -> Iterator[Block]:
    parameters, tokens = _size_of(subject), _tokens_of(subject)
    yield Paragraph(
        "For each time there is a best size. Smaller models cannot hold what the text teaches; larger ones do not see "
        "enough of it. Double the time, and both the model and the text should grow. The work of training is about six "
        "operations for each parameter and each token: two to compute the loss, four for the gradients."
    )
    lines = [("C = 6 N D", "N parameters, D tokens read, C operations (products and sums of two numbers)")]
    if tokens:
        work = 6 * parameters * tokens
        lines.append(
            (
                f"C = 6 x {parameters:,} x {tokens:,} = {work:.2e}",
                f"your model: {tokens / parameters:,.1f} tokens for each parameter",
            )
        )
    yield Formula(lines)
    rows = []
    for minutes in FEW:
        plans = {}
        for size in SIZES:
            try:
                plan = known.best(minutes, size)
            except TinyslmError:
                continue  # no model of this size is planned
            if plan.expectation.steps >= FEWEST_STEPS:
                plans[plan.expectation.parameters] = [plan.expectation.tokens, plan.expectation.bits_per_byte]
        if len(plans) > 1:
            rows.append({"minutes": minutes, "sizes": [[size, *plans[size]] for size in sorted(plans)]})
    yield Widget("sizes", {"budgets": rows, "yours": parameters}, "Models of all sizes in the same time")


def _law(known: _Known) -> Iterator[Block]:
    plan = known.plan or known.best(10)
    config, steps, law = plan.settings, plan.expectation.steps, read_law()
    about = conditions(known.survey, config.model, config.train.batch, steps)
    parts, fitted = predicted_parts(law.coefficients, about), law.coefficients
    yield Paragraph(
        f"The planner's expectation is a formula fitted to {law.runs} runs of {law.weights.low:.1f} to "
        f"{law.weights.high:.1f} million weights (a scaling law). It adds up what stays however large the model is, "
        "what a short context hides, and what a model of this size, or one that has read so little, has not learned. "
        "A tiny model, trained for a moment, shows how hard the text is, and scales all terms."
    )
    yield Formula(
        (
            ("bits = floor + context + join(size, text)", "join: (S^m + T^m)^(1/m), a little more than the larger one"),
            (
                f"S is proportional to N^-{fitted.size_power:.3f}",
                f"N = {about.block_weights:.2f} million weights in the layers",
            ),
            (
                f"T is proportional to D^-{fitted.text_power:.3f}",
                f"D = {about.tokens:.2f} million tokens read; the exponent varies a little with the kind of text",
            ),
            (
                f"bits = {parts.floor:.3f} + {parts.window + parts.near:.3f} + {parts.both:.3f} = {parts.total:.3f}",
                f"{'your run' if known.plan else 'ten minutes'}; S = {parts.size:.3f}, T = {parts.text:.3f}",
            ),
        )
    )
    bars = (
        ("floor", parts.floor, f"{parts.floor:.3f}"),
        ("context", parts.window + parts.near, f"{parts.window + parts.near:.3f}"),
        ("size and text", parts.both, f"{parts.both:.3f}"),
    )
    yield Bars(bars)
    wins = "More text or time" if parts.text > parts.size else "A larger model"
    yield Paragraph(
        f"{wins} helps most here, because that term is the larger one. The exponents are small: to halve S takes "
        f"{2 ** (1 / fitted.size_power):,.0f} times as many weights, to halve T about "
        f"{2 ** (1 / fitted.text_power):,.0f} times as many tokens."
    )


def _others(subject: Subject, known: _Known) -> Iterator[Block]:
    plan = known.best(60)
    config, costs = plan.settings, known.costs
    work = 6 * config.model.parameters * config.train.batch * config.model.context
    seconds = costs.rates(config).update / work
    threads = f"{costs.threads} thread{'s' if costs.threads > 1 else ''}"
    yield Paragraph(
        f"With the plan for one hour, an update of this machine ({threads}, {costs.dtype}) takes "
        f"{1000 * work * seconds:,.0f} ms for 6 N D = {work:.2e} operations: {1e-9 / seconds:,.1f} billion operations "
        "per second, with everything else that an update does. The last column is the time that it would need at this "
        "speed for the work of each model."
    )
    models = [("yours", float(_size_of(subject)), float(_tokens_of(subject))), *OTHERS]
    rows = []
    for name, parameters, tokens in models:
        known_tokens = (count(tokens), f"{tokens / parameters:,.1f}", _long(6 * parameters * tokens * seconds))
        rows.append((name, count(parameters), *(known_tokens if tokens else ("not known",) * 3)))
    yield Table(rows, ("model", "parameters", "tokens read", "tokens per parameter", "time on this machine"))
    yield Paragraph(
        "About 20 tokens for each parameter give the lowest loss for the work of one training (Hoffmann et al., 2022). "
        "Models that are used by many read far more, because a small model is cheaper every time it is used. On small "
        "texts, the planner may read the text several times; each further time is worth less."
    )


def _machines(known: _Known) -> Iterator[Block]:
    plan = known.best(60)
    rows = []
    for processes in PROCESSES:
        try:
            one = speedup(plan, processes, None)
        except TinyslmError:
            break  # fewer sequences in a batch than processes
        rows.append(
            (
                str(processes),
                f"{1000 * one.together:,.1f} ms",
                f"{one.times:.2f}",
                f"{100 * one.times / processes:.0f} %",
                f"{one.tokens_per_second:,.0f}",
            )
        )
    yield Paragraph(
        "Several machines share each batch: each computes the gradients of its part, and all sum them up. The step of "
        "the optimizer is not shared, so twice the machines are less than twice as fast. These are the updates of the "
        "plan for one hour, without the time for the sums, which depends on the network "
        "(tinyslm plan TEXT --world 4 measures it)."
    )
    yield Table(rows, ("machines", "an update", "times as fast", "efficiency", "tokens per second"))


def _size_of(subject: Subject) -> int:
    return sum(one.numel() for one in subject.model.parameters())


def _tokens_of(subject: Subject) -> int:
    """The tokens that the reader's model was trained on by its run; 0 if that is not known."""
    result = subject.run.result() if subject.run else None
    return int(result.get("training_tokens", 0)) if result else 0


def _long(seconds: float) -> str:
    """A duration in the largest unit of which there is at least one."""
    units = (("years", YEAR), ("days", 86_400), ("hours", 3600), ("minutes", 60), ("seconds", 1))
    name, unit = next((one for one in units if seconds >= one[1]), units[-1])
    return f"{seconds / unit:,.1f} {name}" if seconds / unit < 100 else f"{seconds / unit:,.0f} {name}"


SCALE = Chapter(
    "Scale and budget",
    "What a minute, an hour and a night of training buy on this machine, and where your model lies.",
    lambda subject: list(_blocks(subject)),
    ("grid.js", "scale.js"),
    ("scale.css",),
)
