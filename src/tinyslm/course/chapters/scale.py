"""Scale and budget: what a training time buys on this machine, and how large a model should be."""

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
PUBLISHED = (
    ("SmolLM2-135M", 1.35e8, 2e12, "huggingface.co/HuggingFaceTB/SmolLM2-135M"),
    ("TinyLlama-1.1B", 1.1e9, 3e12, "github.com/jzhang38/TinyLlama"),
    ("Llama 3 8B", 8e9, 1.5e13, "github.com/meta-llama/llama3, MODEL_CARD.md"),
    ("GPT-3", 1.75e11, 3e11, "Brown et al., 2020, arXiv:2005.14165"),
)
"""Name, parameters, tokens read in training, and the source of both."""
LIBRARY = "library.json"
"""The survey of the Python standard library, for models whose run has no plan."""
TRIALS, SECONDS = (CPU_TRIALS[1], CPU_TRIALS[3], CPU_TRIALS[4]), 0.2
YEAR = 365.25 * 86_400


@dataclass(frozen=True)
class _Known:
    """What plans are made from. plan: that of the reader's run; if there is one, the other fields are from it."""

    plan: Plan | None
    survey: Survey
    costs: MachineCosts
    search: Search

    @classmethod
    def of(cls, subject: Subject) -> _Known:
        """From the run's plan, or from the survey of the standard library and short measurements of this machine."""
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
    yield Section("Your model compared with published ones", tuple(_others(subject, known)))
    yield Section("More machines", tuple(_machines(known)))


def _budgets(subject: Subject, known: _Known) -> Iterator[Block]:
    yield Paragraph(
        "In a given training time, a large model reads little text and a small model reads much. The planner of "
        "tinyslm measures the machine and the text, and chooses the model with the lowest expected loss: "
        + (
            "these are its plans for the text of your run, on the machine that planned it."
            if known.plan
            else "these are its plans for the Python standard library on this machine. Your model has no plan. A run "
            "with a time limit (--minutes) has one; its own text is then used here."
        )
    )
    yield Paragraph(
        "Bits per byte measure how well a model predicts text: the average number of bits for each byte if the model "
        "is used to compress the text. Guessing needs 8; lower is better. The shaded area should contain 95 % of all "
        "runs."
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
    """The point of the reader's model on the curve, if both used the same text."""
    result = subject.run.result() if subject.run else None
    if known.plan is None or result is None or "bits_per_byte" not in result:
        return None
    minutes = known.plan.settings.train.minutes or result["training_seconds"] / 60
    return {"minutes": minutes, "bits": result["bits_per_byte"]}


def _sizes(subject: Subject, known: _Known) -> Iterator[Block]:
    parameters, tokens = _size_of(subject), _tokens_of(subject)
    yield Paragraph(
        "Each training time has a best model size. Smaller models cannot store enough of what the text teaches; larger "
        "ones do not read enough text. With twice the time, both the model and the text should grow. Training takes "
        "about six operations for each parameter and each token: two to compute the loss, four for the gradients."
    )
    lines = [("C = 6 N D", "N parameters, D tokens read, C floating-point operations (additions and multiplications)")]
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
        f"{law.weights.high:.1f} million weights (a scaling law). It is a sum: the "
        "loss that remains however large the model is, the loss from a short context, and the loss from the limited "
        "size of the model and the limited text it reads. A tiny model, trained for a few seconds, measures how hard "
        "the text is; all terms are scaled by the result."
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
        f"{wins} helps most here, because that term is larger. The exponents are small: halving S takes "
        f"{2 ** (1 / fitted.size_power):,.0f} times as many weights, halving T about "
        f"{2 ** (1 / fitted.text_power):,.0f} times as many tokens."
    )


def _others(subject: Subject, known: _Known) -> Iterator[Block]:
    plan = known.best(60)
    config, costs = plan.settings, known.costs
    work = 6 * config.model.parameters * config.train.batch * config.model.context
    seconds = costs.rates(config).update / work
    threads = f"{costs.threads} thread{'s' if costs.threads > 1 else ''}"
    yield Paragraph(
        f"With the plan for one hour, an update on this machine ({threads}, {costs.dtype}) takes "
        f"{1000 * work * seconds:,.0f} ms for 6 N D = {work:.2e} operations: {1e-9 / seconds:,.1f} billion operations "
        "per second, including everything else in an update. The column “time on this machine” is 6 N D of each "
        "model at this speed."
    )
    models = [("yours", float(_size_of(subject)), float(_tokens_of(subject)), "its run"), *PUBLISHED]
    rows = []
    for name, parameters, tokens, source in models:
        known_tokens = (count(tokens), f"{tokens / parameters:,.1f}", _long(6 * parameters * tokens * seconds))
        rows.append((name, count(parameters), *(known_tokens if tokens else ("not known",) * 3), source))
    yield Table(rows, ("model", "parameters", "tokens read", "tokens per parameter", "time on this machine", "source"))
    yield Paragraph(
        "For a fixed number of training operations, about 20 tokens per parameter give the lowest loss (Hoffmann et "
        "al., 2022, arXiv:2203.15556). Models that many people use are trained on far more, because a smaller model "
        "is cheaper each time it is used. If the text is small, the planner reads it several times; each repetition "
        "teaches less."
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
        "Several machines divide each batch: each computes the gradients of its part, and the gradients are summed. "
        "The optimizer step is not divided, so twice the machines are less than twice as fast. The table is for the "
        "plan for one hour, without the time for the sum of gradients, which depends on the network (tinyslm plan "
        "TEXT --world 4 measures it)."
    )
    yield Table(rows, ("machines", "time per update", "speedup", "efficiency", "tokens per second"))


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
    "What a minute, an hour and a night of training buy on this machine, and how your model compares.",
    lambda subject: list(_blocks(subject)),
    ("grid.js", "scale.js"),
    ("scale.css",),
)
