"""Alarms of reinforcement learning, in words: what a run's metrics say is going wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tinyslm.evaluation.graders import FAILED

Metrics = Mapping[str, float]
PATIENCE = 5
"""So many updates in a row show a state, and not chance."""


class Alarms:
    """Watches the metrics of each update; each alarm is given once."""

    def __init__(self) -> None:
        self._history: list[Metrics] = []
        self._given: set[str] = set()

    def after(self, metrics: Metrics) -> list[str]:
        """The alarms that are new after one more update."""
        self._history.append(metrics)
        raised = {
            name: text for name, check in ALARMS.items() if name not in self._given and (text := check(self._history))
        }
        self._given |= raised.keys()
        return list(raised.values())


def _recent(history: Sequence[Metrics], name: str) -> list[float]:
    """The last values, if there are enough of them."""
    return [one.get(name, 0.0) for one in history[-PATIENCE:]] if len(history) >= PATIENCE else []


def _mean(history: Sequence[Metrics], name: str, *, first: bool) -> float:
    part = history[:PATIENCE] if first else history[-PATIENCE:]
    return sum(one.get(name, 0.0) for one in part) / len(part)


def grader_failed(history: Sequence[Metrics]) -> str:
    """The grader fails on answers."""
    share = history[-1].get(FAILED, 0.0)
    return f"The grader failed on {share:.0%} of the answers. Try it: tinyslm data check-grader" if share else ""


def equal_rewards(history: Sequence[Metrics]) -> str:
    """Nearly all groups have equal rewards: there is nothing to compare."""
    recent = _recent(history, "equal_groups")
    if not recent or min(recent) < 0.9:
        return ""
    reward = _mean(history, "reward", first=False)
    what = "easier prompts, or a grader that gives parts of the score" if reward < 0.5 else "harder prompts"
    return (
        f"All answers to a prompt get the same reward in at least 90 % of the groups (mean {reward:.2f}): use {what}."
    )


def shorter(history: Sequence[Metrics]) -> str:
    """Answers collapse to a fraction of their length."""
    before, now = (_mean(history, "answer_tokens", first=first) for first in (True, False))
    if len(history) < 2 * PATIENCE or now > before / 3 or before < 6:
        return ""
    return f"Answers have shrunk from {before:.0f} to {now:.0f} tokens: check whether the grader rewards short answers."


def longer(history: Sequence[Metrics]) -> str:
    """Answers grow to the limit."""
    recent = _recent(history, "truncated")
    if not recent or min(recent) < 0.5:
        return ""
    return (
        f"{_mean(history, 'truncated', first=False):.0%} of the answers reach the limit without ending: "
        "raise --grpo.max-tokens, or give a grader that rewards answers that end."
    )


def falling_entropy(history: Sequence[Metrics]) -> str:
    """The model hardly varies its answers any more."""
    before, now = (_mean(history, "entropy", first=first) for first in (True, False))
    if len(history) < 2 * PATIENCE or now > 0.25 * before:
        return ""
    return (
        f"The entropy has fallen from {before:.2f} to {now:.2f} nats per token, so answers hardly vary: "
        "lower --optimizer.lr, or raise --grpo.kl or --grpo.clip-high."
    )


def far_from_start(history: Sequence[Metrics]) -> str:
    """The model has moved far from where it started."""
    recent = _recent(history, "kl")
    if not recent or min(recent) < 1.0:
        return ""
    return (
        f"The model is {recent[-1]:.1f} nats per token away from the one at the start (KL): "
        "raise --grpo.kl, or lower --optimizer.lr."
    )


ALARMS: Mapping[str, Callable[[Sequence[Metrics]], str]] = {
    "grader": grader_failed,
    "equal": equal_rewards,
    "shorter": shorter,
    "longer": longer,
    "entropy": falling_entropy,
    "kl": far_from_start,
}
