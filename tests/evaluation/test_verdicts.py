"""The verdict on fine-tuning: a change counts if it exceeds its interval and the noise floor."""

import numpy as np
import pytest

from tinyslm.evaluation.intervals import paired_ratio_difference
from tinyslm.evaluation.verdict import Answered, NoiseFloor, Outcome, Verdict, judge, samples

FLOOR = NoiseFloor(general=0.002, source="")


def outcome(loss: float = 2.0, bits: float = 100.0, scores: tuple[float, ...] = (), examples: int = 40) -> Outcome:
    """An outcome whose examples and texts differ in difficulty, but not in what `loss` and `bits` add to them."""
    weights = [float(1 + number % 7) for number in range(examples)]
    return Outcome(
        {"loss": loss},
        losses=[weight * (loss + number % 5) for number, weight in enumerate(weights)],
        weights=weights,
        bits=[bits * (1 + number % 3) for number in range(14)],
        sizes=[100.0] * 14,
        answers=[Answered("q", "r", "a", score) for score in scores],
    )


def compare(after: Outcome, before: Outcome | None = None, replay: float = 0.0) -> Verdict:
    return judge(before or outcome(), after, FLOOR, replay=replay)


def test_a_gain_that_exceeds_the_noise_is_better() -> None:
    verdict = compare(outcome(1.6))
    assert verdict.better
    assert verdict.passes
    assert verdict.gain == verdict.loss
    assert verdict.gain.change == pytest.approx(-0.4)
    assert verdict.gain.low <= verdict.gain.change <= verdict.gain.high < 0
    assert verdict.in_words == (
        "better on the task (-0.400 nats per token, -0.400 to -0.400); general text +0 %, within the noise (0.4 %)"
    )


@pytest.mark.parametrize(
    ("after", "effect", "advice"),
    [
        (outcome(1.995), "noise", "try more examples"),  # certain, but too small to be called a gain
        (outcome(2.3), "worse", "try more examples"),
    ],
)
def test_a_change_within_the_noise_is_no_gain(after: Outcome, effect: str, advice: str) -> None:
    verdict = compare(after)
    assert not verdict.better
    assert not verdict.passes
    assert verdict.gain.effect == effect
    assert advice in verdict.in_words


def test_a_few_scattered_examples_are_no_gain() -> None:
    before, after = outcome(examples=4), outcome(examples=4)
    after.losses[0] -= 9.0
    after.losses[1] += 3.0
    verdict = compare(after, before)
    assert verdict.gain.effect == "noise"
    assert "only 4 held-out examples" in verdict.in_words


def test_general_text_that_gets_worse_beyond_the_noise_does_not_pass() -> None:
    verdict = compare(outcome(1.6, bits=101.2))
    assert verdict.better
    assert not verdict.passes
    assert verdict.general.change == pytest.approx(0.012)
    assert verdict.in_words.endswith("general text 1.2 % worse, more than the noise (0.4 %): try --replay 0.1")
    again = compare(outcome(1.6, bits=101.2), replay=0.1).in_words
    assert "with 10 % replay: try --replay 0.2, or a lower --optimizer.lr" in again
    assert compare(outcome(1.6, bits=100.3)).passes


def test_a_grader_decides_where_there_is_one() -> None:
    before, after = outcome(2.0, scores=(0.0, 1.0) * 20), outcome(1.6, scores=(1.0, 1.0) * 20)
    verdict = compare(after, before)
    assert verdict.gain.unit == "score"
    assert (verdict.gain.before, verdict.gain.after, verdict.gain.examples) == (0.5, 1.0, 40)
    assert verdict.better
    assert verdict.loss.unit == "nats per token"
    assert "better on the task (+0.50 score" in verdict.in_words
    worse = compare(outcome(1.6, scores=(0.0, 0.0) * 20), before)  # a better loss, and worse answers
    assert worse.gain.effect == "worse"
    assert not worse.passes
    shown = samples(before, after, 1)[0]
    assert shown["scores"] == (0.0, 1.0)


def test_what_was_not_measured_is_left_open() -> None:
    verdict = compare(Outcome({}), Outcome({}))
    assert (verdict.gain, verdict.general, verdict.passes) == (None, None, False)
    assert verdict.as_result()["gain"] is None


def test_the_ratio_of_paired_differences_resamples_pairs() -> None:
    generator = np.random.default_rng(1)
    hard, sizes = generator.normal(10, 5, 200), generator.integers(1, 9, 200).astype(float)
    found = paired_ratio_difference((hard - 0.5) * sizes, hard * sizes, sizes)
    assert found.value == pytest.approx(-0.5)
    assert found.high - found.low < 1e-6
    assert found.p < 0.01


def test_the_shipped_noise_floor_names_its_source() -> None:
    floor = NoiseFloor.shipped()
    assert 0 < floor.general < 0.05
    assert "seeds" in floor.source
