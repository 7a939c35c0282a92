"""The verdict on a fine-tuned model: its gain on the task, what happened to general text, and both in words.

Both models are measured on the same examples and the same texts, so differences are paired: the difficulty of an
example cancels out. A change counts if its 95 % bootstrap interval excludes zero. A change in general text must also
exceed the noise floor, which is how much the same training differs between seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tinyslm.core.json_files import read_json
from tinyslm.evaluation.intervals import paired_change_intervals, paired_difference, paired_ratio_difference
from tinyslm.evaluation.loss import PER_BYTE

FLOOR_FILE = Path(__file__).parent / "noise_floor.json"
DEVIATIONS = 2
"""Standard deviations between seeds that make up the noise floor."""
LEAST_GAIN = 0.01
"""Smaller changes of a loss are not called a gain, however certain they are."""
ADVISED_REPLAY = 0.1
FEW_EXAMPLES = 30
Change = Literal["better", "worse", "noise"]


@dataclass(frozen=True)
class Answered:
    """A model's answer to a held-out question, with the reference. score: the grader's, if there is a grader."""

    question: str
    reference: str
    answer: str
    score: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What was measured of one model.

    score: the stage's. losses, weights: of each held-out example; empty if the stage has none. unit: of the losses
    divided by the weights. bits, sizes: of each general text, in bits and bytes.
    """

    score: dict[str, Any]
    losses: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    bits: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    unit: str = "nats per token"


@dataclass(frozen=True)
class NoiseFloor:
    """Standard deviation between seeds, of the same training on the same data: `benchmarks/verdict_noise.py`.

    general: of the relative change in bits per byte of general text. source: what was measured.
    """

    general: float
    source: str

    @classmethod
    def shipped(cls) -> NoiseFloor:
        """The noise floor that was measured for tinyslm."""
        return read_json(FLOOR_FILE, cls)


@dataclass(frozen=True)
class Gain:
    """The change of one figure on the same held-out examples, with its 95 % interval.

    unit: what `change` is in: "score" (of a grader: more is better), or that of a loss, such as "nats per token".
    """

    unit: str
    before: float
    after: float
    change: float
    low: float
    high: float
    examples: int
    effect: Change

    @property
    def in_words(self) -> str:
        """Such as `better on the task (-0.42 nats per token, -0.50 to -0.34)`."""
        digits = 3 if self.unit != "score" else 2
        change, low, high = (f"{value:+.{digits}f}" for value in (self.change, self.low, self.high))
        place = "this text" if self.unit == PER_BYTE else "the task"
        what = {"better": f"better on {place}", "worse": f"worse on {place}"}.get(
            self.effect, f"no better on {place}: the change is within the noise"
        )
        interval = f", {low} to {high}" if self.examples > 1 else ""
        return f"{what} ({change} {self.unit}{interval})"


@dataclass(frozen=True)
class General:
    """Bits per byte of general text; change, low, high: relative. noise: the floor, relative."""

    before: float
    after: float
    change: float
    low: float
    high: float
    texts: int
    noise: float
    effect: Change

    @property
    def in_words(self) -> str:
        """Such as `general text 1.2 % worse, more than the noise (0.3 %)`."""
        change, low, high = (_percent(share, sign=True) for share in (self.change, self.low, self.high))
        if abs(self.change) <= self.noise:
            return f"general text {change}, within the noise ({_percent(self.noise)})"
        if self.effect == "noise":
            return f"general text {change}, which is not clear ({low} to {high})"
        return f"general text {_percent(self.change)} {self.effect}, more than the noise ({_percent(self.noise)})"


@dataclass(frozen=True)
class Verdict:
    """What a fine-tuning run has changed. `None`: not measured.

    gain: by the grader if there is one, otherwise the loss. loss: always the loss. better: whether the gain exceeds
    the noise. replay: the share of general text in the batches; `None` for a method without it.
    """

    gain: Gain | None
    loss: Gain | None
    general: General | None
    replay: float | None

    @property
    def better(self) -> bool:
        """Whether the model is better on the task, beyond the noise."""
        return self.gain is not None and self.gain.effect == "better"

    @property
    def passes(self) -> bool:
        """Whether the model is better on the task, and general text not worse beyond the noise."""
        return self.better and not (self.general and self.general.effect == "worse")

    @property
    def in_words(self) -> str:
        """The verdict in one sentence, with what to do next."""
        parts = [self.gain.in_words] if self.gain else []
        if self.gain and self.loss and self.gain != self.loss:
            parts.append(f"loss {self.loss.change:+.3f} {self.loss.unit}")
        if self.general:
            parts.append(self.general.in_words + (f", with {_percent(self.replay)} replay" if self.replay else ""))
        advice = self._advice()
        return "; ".join(parts) + (f": {advice}" if advice else "")

    def _advice(self) -> str:
        if self.general and self.general.effect == "worse":
            if self.replay is None:
                return "try fewer updates, or a lower --optimizer.lr"
            if not self.replay:
                return f"try --replay {ADVISED_REPLAY}"
            return f"try --replay {min(0.5, 2 * self.replay):.2g}, or a lower --optimizer.lr"
        if self.gain and self.gain.effect == "noise" and self.gain.examples < FEW_EXAMPLES:
            return f"only {self.gain.examples} held-out examples were compared; give more with {_more(self.gain)}"
        if self.gain and self.gain.effect != "better":
            return f"try more {'text' if self.gain.unit == PER_BYTE else 'examples'}, or more time"
        return ""

    def as_result(self) -> dict[str, Any]:
        """The fields of `verdict` in a run's result."""
        parts = {"gain": self.gain, "loss": self.loss, "general": self.general}
        measured = {name: asdict(part) for name, part in parts.items() if part is not None}
        words = {"better": self.better, "passes": self.passes, "words": self.in_words}
        return {"gain": None, "general": None, **measured, "replay": self.replay, **words}


def judge(before: Outcome, after: Outcome, floor: NoiseFloor, *, replay: float | None = 0.0) -> Verdict:
    """Compare the outcomes of one measurement before and after a run."""
    loss = _loss(before, after)
    graded = _graded(before.answers, after.answers)
    return Verdict(graded or loss, loss, _general(before, after, floor), replay)


def _loss(before: Outcome, after: Outcome) -> Gain | None:
    if not before.losses or len(before.losses) != len(after.losses):
        return None
    ours, theirs, sizes = (np.array(values) for values in (after.losses, before.losses, before.weights))
    found = paired_ratio_difference(ours, theirs, sizes)
    return Gain(
        unit=after.unit,
        before=float(theirs.sum() / sizes.sum()),
        after=float(ours.sum() / sizes.sum()),
        change=found.value,
        low=found.low,
        high=found.high,
        examples=len(ours),
        effect=_change(found.value, found.low, found.high, LEAST_GAIN) if len(ours) > 1 else "noise",
    )


def _graded(before: Sequence[Answered], after: Sequence[Answered]) -> Gain | None:
    """The change of the mean score over the questions that both have answered."""
    pairs = [
        (one.score, other.score)
        for one, other in zip(before, after, strict=False)
        if one.score is not None and other.score is not None
    ]
    if not pairs:
        return None
    theirs, ours = np.array(pairs).T
    found = paired_difference(ours, theirs)
    flipped = _change(-found.value, -found.high, -found.low, 0.0)
    return Gain(
        unit="score",
        before=float(theirs.mean()),
        after=float(ours.mean()),
        change=found.value,
        low=found.low,
        high=found.high,
        examples=len(pairs),
        effect=flipped if len(pairs) > 1 else "noise",
    )


def _general(before: Outcome, after: Outcome, floor: NoiseFloor) -> General | None:
    if not before.bits or len(before.bits) != len(after.bits):
        return None
    totals = np.array([before.bits, after.bits]).T
    sizes, noise = sum(before.sizes), DEVIATIONS * floor.general
    low, high = paired_change_intervals(totals)[1]
    change = float(totals[:, 1].sum() / totals[:, 0].sum() - 1)
    return General(
        before=float(totals[:, 0].sum() / sizes),
        after=float(totals[:, 1].sum() / sizes),
        change=change,
        low=low,
        high=high,
        texts=len(totals),
        noise=noise,
        effect=_change(change, low, high, noise),
    )


def _change(value: float, low: float, high: float, noise: float) -> Change:
    """What a change means of a figure that is better when it is smaller."""
    if abs(value) <= noise or low <= 0 <= high:
        return "noise"
    return "better" if value < 0 else "worse"


def samples(before: Outcome, after: Outcome, count: int) -> list[Mapping[str, Any]]:
    """Some questions with both answers side by side; of graded ones, first those whose score changed."""
    pairs = list(zip(before.answers, after.answers, strict=False))
    pairs.sort(key=lambda pair: -abs((pair[1].score or 0.0) - (pair[0].score or 0.0)))
    return [
        {
            "question": one.question,
            "reference": one.reference,
            "before": one.answer,
            "after": other.answer,
            "scores": None if one.score is None else (one.score, other.score),
        }
        for one, other in pairs[:count]
    ]


def _more(gain: Gain) -> str:
    """The option that gives more held-out examples."""
    return "--data.valid-share" if gain.unit == PER_BYTE else "--valid"


def _percent(share: float, *, sign: bool = False) -> str:
    return f"{100 * share:+.2g} %" if sign else f"{100 * abs(share):.2g} %"
