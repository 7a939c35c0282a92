"""The verdict on a fine-tuning run, as a section of its report."""

from collections.abc import Mapping
from typing import Any

from tinyslm.core.page import Block, Folded, Paragraph, Sample, SideBySide, Table
from tinyslm.core.quantities import counted

BEFORE_FILE, AFTER_FILE = "before.json", "after.json"
"""Files of a run folder: what was measured of a model before and after fine-tuning."""
SHOWN, FOLDED = 3, 30
"""Questions with both answers: shown at once, and folded below them at most."""
TITLES = {
    "gain": "task",
    "loss": "loss on held-out examples",
    "general": "general text (bits per byte)",
}


def verdict_blocks(result: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Block]:
    """The verdict of a result, and answers side by side; before, after: what `before.json` and `after.json` hold."""
    verdict = result.get("verdict")
    if not isinstance(verdict, Mapping):
        return []
    words = str(verdict.get("words", ""))
    blocks: list[Block] = [Paragraph(f"{words[:1].upper()}{words[1:]}.")]
    rows = [_row(TITLES[name], part) for name in TITLES if isinstance(part := verdict.get(name), Mapping)]
    if verdict.get("gain") == verdict.get("loss"):
        rows = rows[1:]  # without a grader, the gain is that of the loss
    if rows:
        header = ("measured", "before", "after", "change", "95 % interval", "verdict")
        blocks.append(Table(rows, header))
    pairs = _pairs(before, after)
    blocks += [block for pair in pairs[:SHOWN] for block in _answers(*pair)]
    if more := pairs[SHOWN:FOLDED]:
        blocks.append(Folded(f"{len(more)} more answers", [block for pair in more for block in _answers(*pair)]))
    return blocks


def _row(title: str, part: Mapping[str, Any]) -> tuple[str, ...]:
    """A change as a row; that of general text is relative."""
    relative = "texts" in part

    def shown(value: float) -> str:
        return f"{100 * value:+.2f} %" if relative else f"{value:+.3f}"

    on = counted(part["texts"], "text") if relative else counted(part["examples"], "example")
    effect = "within the noise" if part["effect"] == "noise" else part["effect"]
    if unit := part.get("unit") if part.get("unit") != "score" else "":
        title = f"{title} ({unit})"
    interval = f"{shown(part['low'])} to {shown(part['high'])}"
    title = f"{title}, {on}"
    return (title, f"{part['before']:.3f}", f"{part['after']:.3f}", shown(part["change"]), interval, effect)


def _pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Both answers to each question; first those whose score changed most."""
    pairs = list(zip(before.get("outcome", {}).get("answers", []), after.get("answers", []), strict=False))
    return sorted(pairs, key=lambda pair: -abs((pair[1].get("score") or 0) - (pair[0].get("score") or 0)))


def _answers(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Block]:
    def label(name: str, answer: Mapping[str, Any]) -> str:
        return name if answer.get("score") is None else f"{name}: score {answer['score']:.3g}"

    answers = [
        Sample("wanted", str(before["reference"])),
        Sample(label("before", before), str(before["answer"])),
        Sample(label("after", after), str(after["answer"])),
    ]
    return [Sample("question", str(before["question"])), SideBySide(answers)]
