// A sheet to edit, a request in words, the formula that the model writes, and its value.

import * as backend from "./backend.js";
import { decoded, format, parse } from "./csv.js";
import { withDates } from "./dates.js";
import { byId, element } from "../dom.js";
import { Grid } from "./grid.js";
import { keep, kept } from "../storage.js";

const EXAMPLE = [
  ["Date", "Region", "Product", "Units", "Price"],
  ["2026-03-02", "North", "Desk lamp", "12", "24.5"],
  ["2026-03-05", "South", "Webcam", "7", "59.9"],
  ["2026-03-09", "North", "Notebook", "40", "3.2"],
  ["2026-03-11", "West", "Webcam", "5", "59.9"],
  ["2026-03-16", "South", "Desk lamp", "9", "24.5"],
  ["2026-03-20", "North", "Webcam", "3", "62"],
];
const PAUSE = 200; // milliseconds after a change before values are computed
const LARGEST = 5e6; // bytes of a file
const FIELDS = ["request", "formula"];

let asking = null; // the controller of the answer under way
let waiting = 0;
let computed = 0; // number of the newest computation
const work = kept("sheet", "sessionStorage") ?? {}; // what this tab showed before it was loaded again
const grid = new Grid(work.cells ?? EXAMPLE, changed);

function formula() {
  return byId("formula").value.trim();
}

function remember() {
  keep("sheet", { cells: grid.cells, ...Object.fromEntries(FIELDS.map((id) => [id, byId(id).value])) }, "sessionStorage");
}

function changed() {
  remember();
  grid.mark(formula());
  clearTimeout(waiting);
  waiting = setTimeout(compute, PAUSE);
}

// Whether a formula is one for each row: it reads a cell of row 2, or a range that grows, as it is filled down.
function perRow(formula) {
  const cells = formula.replaceAll(/"(?:[^"]|"")*"/g, "").matchAll(/\$?\b[A-Z]{1,2}(\$?)(\d+)(?::\$?[A-Z]{1,2}(\$?)\d+)?(?![\w(])/g);
  return [...cells].some(([, first, row, last]) => (last === undefined ? !first && row === "2" : first !== last));
}

async function compute() {
  const number = ++computed;
  const written = formula();
  if (!written.startsWith("=")) {
    show([]);
    return;
  }
  try {
    const { grid: found, error } = await backend.compute(grid.sheet, written, perRow(written));
    if (number === computed) show(withDates(written, grid.sheet, found ?? []), error);
  } catch (problem) {
    if (number === computed) say(problem.message);
  }
}

function show(found, error) {
  const value = error ?? found[0]?.[0] ?? "";
  byId("value").value = value;
  byId("value").classList.toggle("wrong", Boolean(error) || value.startsWith("#"));
  grid.show(found);
}

function say(text) {
  byId("notice").textContent = text;
}

async function ask() {
  asking = new AbortController();
  byId("write").hidden = true;
  byId("stop").hidden = false;
  say("");
  byId("formula").value = "";
  show([]);
  try {
    let end = null;
    for await (const { text, finish } of backend.write(grid.sheet, byId("request").value, byId("model").value, asking.signal)) {
      byId("formula").value += text;
      end = finish ?? end;
    }
    if (!formula().startsWith("=")) {
      say("The model says that this sheet cannot answer this.");
      byId("formula").value = "";
    } else if (end === "length") say("The model did not finish this formula.");
    remember();
    grid.mark(formula());
    await compute();
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  } finally {
    byId("write").hidden = false;
    byId("stop").hidden = true;
  }
}

async function openFile(file) {
  if (!file) return;
  if (file.size > LARGEST) {
    say("This file is larger than 5 MB.");
    return;
  }
  const text = decoded(await file.arrayBuffer());
  if (text === null) {
    say("This file is not a CSV file. In a spreadsheet program, save the sheet as CSV.");
    return;
  }
  const rows = parse(text).filter((row) => row.some((text) => text.trim()));
  if (!rows.length) {
    say("This file has no cells.");
    return;
  }
  byId("formula").value = "";
  const left = grid.open(rows);
  say(left ? `Only the first ${rows.length - left - 1} of ${rows.length - 1} rows are here: formulas are about these.` : "");
}

function save() {
  const url = URL.createObjectURL(new Blob([format(grid.withResult())], { type: "text/csv" }));
  element("a", { href: url, download: "sheet.csv" }).click();
  URL.revokeObjectURL(url);
}

async function loadModels() {
  try {
    const names = await backend.models();
    byId("model").replaceChildren(...names.map((name) => element("option", { value: name }, [name])));
  } catch (error) {
    say(error.status === 401 ? "This server needs a key: give it in the settings of the chat page, in this tab, and come back." : error.message);
  }
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
byId("stop").addEventListener("click", () => asking.abort());
byId("request").addEventListener("input", remember);
byId("formula").addEventListener("input", () => {
  say("");
  changed();
});
byId("more-rows").addEventListener("click", () => grid.addRow());
byId("more-columns").addEventListener("click", () => grid.addColumn());
byId("clear").addEventListener("click", () => {
  byId("formula").value = "";
  grid.clear(8, 5);
  grid.focus(0, 0);
});
byId("open").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", async () => {
  await openFile(byId("file").files[0]);
  byId("file").value = "";
});
byId("save").addEventListener("click", save);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && asking) asking.abort();
});

for (const id of FIELDS) byId(id).value = work[id] ?? "";
changed();
loadModels();
