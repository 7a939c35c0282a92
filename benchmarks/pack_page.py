"""docs/packs-figures.md and its plots, from the stored rows of `pack.py`: what packs reach, right and wrong answers."""

from collections.abc import Iterator, Mapping
from typing import Any

from areas import shares
from tinyslm.core.plots import Series, grid, line_chart

ROWS = {
    "excel": ("excel pack", "excel pack, new model"),
    "prices": ("prices pack",),
    "security": ("security pack",),
}
"""By pack: the names of its rows in results.json, the one whose answers are shown first."""
LIMITS = {
    "excel": "Do not use it where nobody checks the formulas: it answers unusual requests with confidence, wrongly. "
    "It does not know which of two similar columns is meant, it sees three values of a column, and it knows only the "
    "English names of functions. A request that needs several steps is beyond a model of this size.",
    "prices": "Do not use it to buy, or to set prices, unattended: a wrong field looks like a right one, and only "
    "currency, unit price and check digit can be computed. Pages that a script fills have to be saved as the browser "
    "shows them; prices in pictures are not seen, and of several variants it reads the chosen one.",
    "security": "Do not use it to close alerts, nor to decide alone who is locked out: it reads single events, knows "
    "nothing of your network, and can be misled by text that an attacker writes into a log. A rule that runs right on "
    "the events here may be noisy on yours: try it on a day of your own logs first. It knows the techniques of ATT&CK "
    "17, and no newer ones.",
}
FAULTS = ("excel",)
"""Packs whose parts of a score name what is wrong; those of the others name what is right."""
HEADS = {"baseline": "a program without a model", "base": "before"}
TOP = """# What packs reach

Scores of the [packs](packs.md) on requests that people wrote (`PACK_requests`) and on generated ones of kinds that no
model learned from, with 95 % intervals; then answers to requests that people wrote, right and wrong ones, as they came.
`python benchmarks/pack.py PACK --model FOLDER --curve` measures a pack; this page is written from the stored results
by `python benchmarks/all.py --page`.
"""


def render(results: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """The page."""
    return "\n".join([TOP, *(line for pack in ROWS for line in _section(pack, results, plots))]).rstrip() + "\n"


def draw(results: Mapping[str, Any]) -> dict[str, str]:
    """The SVG of each pack that was measured on the way, by its name in docs/."""
    drawn = {}
    for pack in ROWS:
        charts = []
        for found in _rows(pack, results):
            points = found["result"].get("curve", ())
            for way, unit in (("minutes", "minutes of learning"), ("examples", "examples learned from")):
                if len(points) > 1:
                    tasks = [name for name in points[0] if name not in ("step", "minutes", "examples")]
                    xs = [point[way] for point in points]
                    lines = [
                        Series(task.removeprefix(f"{pack}_"), xs, [100 * point[task] for point in points])
                        for task in tasks
                    ]
                    title = f"{_learner(found['result'])}: % right"
                    charts.append(line_chart(lines, title=title, x_title=unit, y_axis="zero", legend="below"))
        if charts:
            drawn[f"pack-{pack}.svg"] = grid(charts).svg(standing_alone=True)
    return drawn


def _rows(pack: str, results: Mapping[str, Any]) -> list[Any]:
    return [results[name] for name in ROWS[pack] if name in results]


def _learner(result: Mapping[str, Any]) -> str:
    return f"a new model of {result['parameters'] / 1e6:.1f} M" if result["new"] else "SmolLM2-135M-Instruct"


def _section(pack: str, results: Mapping[str, Any], plots: Mapping[str, str]) -> Iterator[str]:
    yield f"## The pack `{pack}`\n"
    rows = _rows(pack, results)
    if not rows:
        yield "Not measured with a taught model yet.\n"
    for found in rows:
        yield from _table(found)
    if (plot := f"pack-{pack}.svg") in plots:
        yield f"![Share of right answers of the pack {pack} against minutes and examples of learning]({plot})\n"
    for right, title in ((True, "Right"), (False, "Wrong")):
        samples = [one for one in (rows[0]["result"].get("samples", ()) if rows else ()) if one["right"] == right]
        if samples:
            yield f"### {title} answers: {pack}\n"
        for sample in samples:
            yield from _sample(pack, sample)
    yield f"**Limits.** {LIMITS[pack]}\n"


def _table(found: Mapping[str, Any]) -> Iterator[str]:
    result = found["result"]
    columns = list(dict.fromkeys(name for one in result["tasks"].values() for name in one))
    learned = result.get("curve") or [{}]
    count = f", {learned[-1]['examples']:,} examples" if "examples" in learned[-1] else ""
    learner, minutes = _learner(result), f"{result['minutes']:g} minutes in all"
    yield f"{learner[0].upper()}{learner[1:]}, {result['step']:,} updates{count}, {minutes}:"
    yield f"`{found['command']}` ({found['date']}, {found['machine']}).\n"
    yield f"| task | {' | '.join(HEADS.get(name, name) for name in columns)} |"
    yield f"| --- |{' --- |' * len(columns)}"
    for task, one in result["tasks"].items():
        cells = [shares(one[name]["score"]) if name in one else "" for name in columns]
        yield f"| `{task}` | {' | '.join(cells)} |"
    yield ""


def _sample(pack: str, sample: Mapping[str, Any]) -> Iterator[str]:
    said = [sample["asked"], "", "answered:", sample["answered"]]
    if not sample["right"]:
        said += ["", "expected:", sample["expected"], "", f"score {sample['outcome']['score']:g}: {_why(pack, sample)}"]
    elif sample["answered"] != sample["expected"]:
        said += ["", "which does the same as:", sample["expected"]]
    yield f"~~~~text\n{chr(10).join(said)}\n~~~~\n"


def _why(pack: str, sample: Mapping[str, Any]) -> str:
    """What the parts of a score say of a wrong answer."""
    parts = {name: value for name, value in sample["outcome"].items() if name != "score"}
    if pack in FAULTS:
        return ", ".join(name.replace("_", " ") for name, value in parts.items() if value) or "it gives something else"
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in parts.items() if value < 1) or "see above"
