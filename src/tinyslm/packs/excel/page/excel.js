// A sheet to edit, a request in words, the formula that the model writes, and its value.

import * as api from "../api.js";
import { byId, element } from "../dom.js";

const EXAMPLE = [
  ["Date", "Region", "Product", "Units", "Price"],
  ["2026-03-02", "North", "Desk lamp", "12", "24.5"],
  ["2026-03-05", "South", "Webcam", "7", "59.9"],
  ["2026-03-09", "North", "Notebook", "40", "3.2"],
  ["2026-03-11", "West", "Webcam", "5", "59.9"],
  ["2026-03-16", "South", "Desk lamp", "9", "24.5"],
  ["2026-03-20", "North", "Webcam", "3", "62"],
];
const MOST_ROWS = 200;
const MOST_COLUMNS = 24;
const PAUSE = 200; // milliseconds after a change before values are computed

let cells = EXAMPLE.map((row) => [...row]);
let asking = null; // the controller of the answer under way
let waiting = 0;
let computed = 0; // number of the newest computation

function letter(column) {
  return String.fromCharCode(65 + column);
}

function draw() {
  const head = element("tr", {}, [
    element("th", { scope: "col", ariaLabel: "row" }),
    ...cells[0].map((_, column) => element("th", { scope: "col" }, [letter(column)])),
  ]);
  const rows = cells.map((row, at) =>
    element("tr", {}, [element("th", { scope: "row" }, [String(at + 1)]), ...row.map((text, column) => cell(text, at, column))]),
  );
  byId("sheet").replaceChildren(element("thead", {}, [head]), element("tbody", {}, rows));
  byId("more-rows").disabled = cells.length >= MOST_ROWS;
  byId("more-columns").disabled = cells[0].length >= MOST_COLUMNS;
  mark();
}

function cell(text, row, column) {
  const input = element("input", { value: text, maxLength: 200, ariaLabel: `${letter(column)}${row + 1}` });
  input.addEventListener("input", () => {
    cells[row][column] = input.value;
    changed();
  });
  input.addEventListener("keydown", (event) => {
    const step = { Enter: 1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) focusCell(row + step, column);
  });
  input.addEventListener("paste", (event) => paste(event, row, column));
  return element("td", {}, [input]);
}

function focusCell(row, column) {
  byId("sheet").tBodies[0].rows[row]?.cells[column + 1].firstChild.focus();
}

// Several cells, as spreadsheets copy them: rows on lines, with tabs between cells.
function paste(event, row, column) {
  const text = event.clipboardData.getData("text/plain").replace(/\r?\n$/, "");
  if (!/[\t\n]/.test(text)) return;
  event.preventDefault();
  const lines = text.split(/\r?\n/).map((line) => line.split("\t"));
  const height = Math.min(MOST_ROWS, Math.max(cells.length, row + lines.length));
  const width = Math.min(MOST_COLUMNS, Math.max(cells[0].length, column + Math.max(...lines.map((line) => line.length))));
  resize(height, width);
  for (const [down, line] of lines.entries()) {
    for (const [right, value] of line.entries()) {
      if (row + down < height && column + right < width) cells[row + down][column + right] = value.trim();
    }
  }
  draw();
  changed();
}

function resize(height, width) {
  cells = Array.from({ length: height }, (_, row) => Array.from({ length: width }, (_, column) => cells[row]?.[column] ?? ""));
}

// The sheet without the empty rows at its end.
function sheet() {
  const filled = cells.findLastIndex((row) => row.some((text) => text.trim()));
  return { headers: cells[0], rows: cells.slice(1, Math.max(filled + 1, 2)) };
}

// Show which cells the formula reads.
function mark() {
  const used = new Set();
  for (const [, a, first, b, last] of byId("formula").value.matchAll(/\$?\b([A-Z])\$?(\d+)(?::\$?([A-Z])\$?(\d+))?/g)) {
    for (let column = a.charCodeAt(0); column <= (b ?? a).charCodeAt(0); column++) {
      for (let row = Number(first); row <= Math.min(Number(last ?? first), cells.length); row++) used.add(`${column - 65} ${row - 1}`);
    }
  }
  for (const [at, row] of [...byId("sheet").tBodies[0].rows].entries()) {
    for (const [column, one] of [...row.cells].slice(1).entries()) one.classList.toggle("used", used.has(`${column} ${at}`));
  }
}

function changed() {
  mark();
  clearTimeout(waiting);
  waiting = setTimeout(compute, PAUSE);
}

async function compute() {
  const number = ++computed;
  const formula = byId("formula").value.trim();
  const shown = byId("value");
  if (!formula.startsWith("=")) {
    shown.value = "";
    return;
  }
  try {
    const { value, error } = await api.post("packs/excel/value", { ...sheet(), formula });
    if (number !== computed) return;
    shown.value = error ?? value;
    shown.classList.toggle("wrong", Boolean(error));
  } catch (problem) {
    if (number === computed) say(problem.message);
  }
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
  byId("value").value = "";
  try {
    const question = await api.post("packs/excel/question", { ...sheet(), request: byId("request").value }, asking.signal);
    const request = { model: byId("model").value, temperature: 0, ...question };
    for await (const chunk of api.chat(request, asking.signal)) byId("formula").value += chunk.choices[0]?.delta.content ?? "";
    if (!byId("formula").value.startsWith("=")) {
      say("The model says that this sheet cannot answer this.");
      byId("formula").value = "";
    }
    mark();
    await compute();
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  } finally {
    byId("write").hidden = false;
    byId("stop").hidden = true;
  }
}

async function loadModels() {
  try {
    const names = (await api.models()).map((one) => one.id);
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
byId("formula").addEventListener("input", changed);
byId("more-rows").addEventListener("click", () => {
  resize(cells.length + 1, cells[0].length);
  draw();
  focusCell(cells.length - 1, 0);
});
byId("more-columns").addEventListener("click", () => {
  resize(cells.length, cells[0].length + 1);
  draw();
  focusCell(0, cells[0].length - 1);
});
byId("clear").addEventListener("click", () => {
  cells = Array.from({ length: 8 }, () => Array(5).fill(""));
  byId("formula").value = "";
  draw();
  changed();
  focusCell(0, 0);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && asking) asking.abort();
});

draw();
loadModels();
