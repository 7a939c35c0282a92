"""docs/results.md, docs/packs-figures.md and their plots, from the stored results."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pack_page
from areas import AREAS, Area
from harness import HERE
from results_plots import PLOTS, draw
from tokenization_plots import draw as draw_tokenization

DOCS = HERE.parent / "docs"
TOP = """# Results

Every figure here was measured by the command in its row; `make bench DATA=FOLDER` runs them all (about two hours on two
cores) except plans, which take many hours (`python benchmarks/all.py --data FOLDER --only planner`). `DATA` is a
folder with `stories/` and `shakespeare/`. Where two things are compared they ran in the same session, in turns where
that is possible; ratios are medians over the rounds, with the lowest and the highest in brackets. The machine is a
shared virtual one with two cores, so trust the ratios rather than the absolute figures.

This page is written by `benchmarks/all.py`. All rows, with every contender and size, are in
[`benchmarks/results.json`](../benchmarks/results.json), also those of benchmarks that a test has replaced since.
"""
FALLS_SHORT = HERE / "falls_short.md"


def write_page(results: Mapping[str, Any]) -> None:
    """Write the page and its plots, those of docs/tokenizers.md, and the page of the packs."""
    plots, of_packs = draw(results), pack_page.draw(results)
    study = draw_tokenization(results["tokenization"]["result"]) if "tokenization" in results else {}
    for name, svg in (plots | study | of_packs).items():
        (DOCS / name).write_text(svg, encoding="utf-8")
    (DOCS / "results.md").write_text(render(results, plots), encoding="utf-8")
    (DOCS / "packs-figures.md").write_text(pack_page.render(results, of_packs), encoding="utf-8")


def render(results: Mapping[str, Any], plots: Collection[str]) -> str:
    """The page. plots: the names of those that were drawn."""
    shown = [f"![{text}]({name})" for name, text in PLOTS.items() if name in plots]
    sections = ["\n".join(section(area, results)) for area in AREAS]
    return "\n\n".join([TOP.strip(), *shown, *sections, FALLS_SHORT.read_text(encoding="utf-8").strip()]) + "\n"


def section(area: Area, results: Mapping[str, Any]) -> Iterator[str]:
    """The lines of an area's table."""
    yield f"## {area.title}\n"
    measured = {source: results[source] for source in area.sources if source in results}
    if measured:
        yield "| what | ours | peer | ratio | command |\n| --- | --- | --- | --- | --- |"
    for source, found in measured.items():
        for row in area.sources[source](found["result"]):
            yield f"| {' | '.join(row)} | `{found['command']}` |"
    dates = sorted({found["date"] for found in measured.values()})
    machines = "; ".join(sorted({found["machine"] for found in measured.values()}))
    if dates:
        yield f"\nMeasured {' to '.join(dict.fromkeys((dates[0], dates[-1])))}: {machines}."
    if missing := area.sources.keys() - measured:
        yield f"\nNot measured: {', '.join(sorted(missing))}."
