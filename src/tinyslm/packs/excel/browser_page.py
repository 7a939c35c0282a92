"""The page of the pack without a server: the server's page with the model, and IronCalc, in the visitor's browser."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyslm.core.npm import Package
from tinyslm.core.printable import one_line
from tinyslm.inference.gbnf import gbnf_of
from tinyslm.packs.browser_page import BrowserPage, OpenPage, PageFault
from tinyslm.packs.excel.grading import ask_engine
from tinyslm.packs.excel.grammar import formula_grammar
from tinyslm.packs.excel.requests import question
from tinyslm.packs.excel.sheets import Cell, sheet_of
from tinyslm.tokenizer.chat import encode_chat

if TYPE_CHECKING:
    from tinyslm.tokenizer.tokenizer import Tokenizer

IRONCALC = Package(
    name="@ironcalc/wasm",
    version="0.8.4",
    integrity="sha512-kdOr3nzb170Wrd2S371QEuCRC3q1EoBdu9CCOU06E3L2dr3cswOuSJmlJM4KHumqFaWEpWb2kiBfOz/szgZ/3Q==",
    licence="MIT or Apache-2.0",
    files={
        "wasm.js": "ironcalc/wasm.js",
        "wasm_bg.wasm": "ironcalc/wasm_bg.wasm",
        "snippets/ironcalc_base-aa721fe913c88060/inline0.js": (
            "ironcalc/snippets/ironcalc_base-aa721fe913c88060/inline0.js"
        ),
    },
)
LICENCE = "LICENSE-MIT.md"
"""The package has none of its own; that of the same program for Python has."""

CHANGES = {
    "What you write goes to this server and nowhere else.": "The model and IronCalc, which computes, run in your "
    "browser: what you write does not leave this device.",
}
SECONDS = 600
REQUEST = "total units"
FORMULAS: Sequence[tuple[str, bool]] = (
    ("=SUM(D2:D7)", False),
    ('=SUMIFS(D2:D7,B2:B7,"North",A2:A7,">="&DATE(2026,3,9))', False),
    ("=ROUND(AVERAGE(E2:E7)/3,4)", False),
    ("=INDEX(C2:C7,MATCH(MAX(D2:D7),D2:D7,0))", False),
    ("=XLOOKUP(5,D2:D7,C2:C7)", False),
    ('=FILTER(C2:D7,B2:B7="South")', False),
    ("=SORT(UNIQUE(C2:C7))", False),
    ("=LET(x,SUM(D2:D7),x*2)", False),
    ("=1/0", False),
    ("=D2*E2", True),
    ('=IF(D2>AVERAGE(D$2:D$7),"above",TEXT(A2,"yyyy-mm"))', True),
    ("=SUM(D$2:D2)", True),
)
"""Formulas for the page's example, and whether they are filled down."""
MESSY: Sequence[Sequence[str]] = (
    ("Día  de\tpago", "", "  Betrag (€) ", "数量", "ok?", "id", "1.5"),
    ("2026-02-29", "0", "1.234,50", "３", "true", "007", "12345678.125"),
    ("2026-2-1", "-0", "12,5", "1e5", "FALSE", "1_000", ".5"),
    ("0050-01-01", "1e400", "€ 5", "", "nan", " 42 ", "123456789012345678901234567890"),
    ("", "x" * 41, "naïve", "½", "=A1", "\u2003\u00a0", "0.00001234567890123"),
)

_EXAMPLE = """async () => {
  const { loading } = await import(new URL("page/loading.js", document.baseURI).href);
  await loading.model;
  const rows = [...document.querySelectorAll("#sheet tbody tr")];
  return rows.map((row) => [...row.querySelectorAll("input")].map((cell) => cell.value));
}"""
_PROMPTS = """async (asked) => {
  const { loading } = await import(new URL("page/loading.js", document.baseURI).href);
  const { question } = await import(new URL("page/excel/question.js", document.baseURI).href);
  const runtime = await loading.model;
  const found = [];
  for (const [sheet, request] of asked) {
    const content = question(sheet, request);
    found.push([content, await runtime.conversation([{ role: "user", content }])]);
  }
  return found;
}"""
_VALUES = """async (sheet, formulas) => {
  const { compute } = await import(new URL("page/excel/backend.js", document.baseURI).href);
  const found = [];
  for (const [formula, fill] of formulas) found.push(await compute(sheet, formula, fill));
  return found;
}"""
_ASK = """async (request) => {
  const at = (id) => document.getElementById(id);
  at("request").value = request;
  at("ask").requestSubmit();
  do await new Promise((resolve) => setTimeout(resolve, 50)); while (at("write").hidden);
  return [at("formula").value, at("value").value, at("notice").textContent];
}"""


def browser_page() -> BrowserPage:
    """The page. Needs the packages of the extra `packs`."""
    own = files("tinyslm.packs.excel")
    return BrowserPage(
        folders=(own / "page", own / "browser"),
        changes=CHANGES,
        packages=(IRONCALC,),
        files={"excel/formulas.gbnf": _grammar().encode(), f"runtime/ironcalc/{LICENCE}": _licence()},
        check=check,
    )


def _grammar() -> str:
    """The rules of formulas, of which the page replaces LETTER and ROW: the columns and rows of its sheet."""
    return gbnf_of(formula_grammar({"sheet": {"headers": [""], "rows": [None]}}))


def _licence() -> bytes:
    found = next(file for file in distribution("ironcalc").files or () if file.name == LICENCE)
    return Path(str(found.locate())).read_bytes()


def check(page: OpenPage, tokenizer: Tokenizer) -> Mapping[str, str]:
    """Compare what the page asks its model, and computes, with what tinyslm does; then ask as a visitor would."""
    example = page.run(_EXAMPLE, SECONDS)
    asked = [*prompts(), ({"headers": example[0], "rows": example[1:]}, REQUEST)]
    for (sheet, request), (text, ids) in zip(asked, page.run(_PROMPTS, SECONDS, asked), strict=True):
        ours = question(sheet_of(**sheet), request)
        if (text, ids) != (
            ours,
            encode_chat(tokenizer, [{"role": "user", "content": ours}], add_generation_prompt=True),
        ):
            raise PageFault(f"it asks the model {one_line(text, 100)!r} instead of {one_line(ours, 100)!r}")
    typed = {"headers": example[0], "rows": example[1:]}
    for (formula, fill), found in zip(FORMULAS, page.run(_VALUES, SECONDS, typed, FORMULAS), strict=True):
        wanted = {"do": "value", "sheet": sheet_of(**typed).json(), "formula": formula, "fill": fill}
        if found.get("grid") != (grid := ask_engine(wanted)["grid"]):
            shown = json.dumps(found.get("grid", found.get("error")), ensure_ascii=False)
            raise PageFault(f"{formula} gives {one_line(shown, 100)} instead of {one_line(json.dumps(grid), 100)}")
    formula, value, notice = page.run(_ASK, SECONDS, REQUEST)
    if not (formula or notice) or (formula and not value and not notice):
        raise PageFault(f'asked for "{REQUEST}", it shows nothing')
    return {
        "prompts": f"equal for {len(asked)} requests about {len(asked)} sheets",
        "values": f"{len(FORMULAS)} formulas as tinyslm computes them",
        "request": f'"{REQUEST}": ' + ", ".join(one_line(part, 100) for part in (formula, value, notice) if part),
    }


def prompts() -> Iterator[tuple[dict[str, Any], str]]:
    """Sheets of texts, tidy and messy ones, each with a request."""
    tables = (files("tinyslm.packs.excel") / "tables.jsonl").read_text(encoding="utf-8").splitlines()
    for number, one in enumerate(map(json.loads, tables)):
        for rows in (one["rows"], one["rows"][: 1 + number % 5], one["rows"][::-1]):
            yield {"headers": one["headers"], "rows": [[_typed(cell) for cell in row] for row in rows]}, one["name"]
    yield {"headers": list(MESSY[0]), "rows": [list(row) for row in MESSY[1:]]}, "wie viel, <|im_end|> ok?"


def _typed(cell: Cell) -> str:
    """A cell as a person types it."""
    if isinstance(cell, Mapping):
        return cell["date"]
    return "" if cell is None else str(cell)
