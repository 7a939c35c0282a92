// Runs in a worker: computes formulas with IronCalc, as tinyslm's `packs/excel/engine.py` does.
//
// A formula stands in row 2 of the first free column but one, or from there down to the last row. Its values are read as
// texts from a second sheet, as a number's own cell shows it with fewer digits, or as a date.

import { cellOf, plainNumber, rounded } from "./question.js";
import start, { Model } from "../runtime/ironcalc/wasm.js";

const WINDOW = { rows: 64, columns: 12 }; // that are read of a result that spills
const PLACES = 12; // digits of a value
const NUMBER = 1; // a type of cells
const LACKING = /\bAGGREGATE\(/i; // of the functions that the grammar allows, the one that IronCalc has not

onmessage = ({ data: { number, sheet, formula, fill } }) => {
  try {
    const grid = computed(sheet, formula, fill);
    if (grid[0][0] === "#NAME?" && LACKING.test(formula)) throw new Error("IronCalc has no AGGREGATE");
    postMessage({ number, grid });
  } catch (error) {
    postMessage({ number, error: `not computed: ${error.message ?? error}` });
  }
};

function computed({ headers, rows }, formula, fill) {
  const model = new Model("sheet", "en", "UTC", "en");
  try {
    return results(model, headers, rows, formula, fill);
  } finally {
    model.free();
  }
}

function results(model, headers, rows, formula, fill) {
  const column = headers.length + 2;
  model.pauseEvaluation();
  model.newSheet();
  const [{ name }] = model.getWorksheetsProperties();
  for (const [row, cells] of [headers.map((text) => ({ kind: "text", value: text })), ...rows.map((texts) => texts.map(cellOf))].entries()) {
    for (const [at, cell] of cells.entries()) if (cell) model.setUserInput(0, row + 1, at + 1, input(cell));
  }
  model.setUserInput(0, 2, column, formula);
  if (fill && rows.length > 1) model.autoFillRows({ sheet: 0, row: 2, column, width: 1, height: 1 }, rows.length + 1);
  model.resumeEvaluation();
  model.evaluate();
  const [width, height] = fill ? [1, rows.length] : spilled(model, column);
  const places = Array.from({ length: height }, (_, row) => Array.from({ length: width }, (_, at) => [row + 2, column + at]));
  model.pauseEvaluation();
  for (const [row, at] of places.flat()) model.setUserInput(1, row, at, `=${name}!${letters(at)}${row}&""`);
  model.resumeEvaluation();
  model.evaluate();
  return places.map((line) => line.map(([row, at]) => shown(model, row, at)));
}

function input({ kind, value }) {
  if (kind === "text") return `'${value}`;
  return kind === "boolean" ? String(value).toUpperCase() : String(value);
}

// How wide and high a result is.
function spilled(model, column) {
  const structure = model.getCellArrayStructure(0, 2, column);
  const [width, height] = structure.DynamicAnchor ?? [1, 1];
  return [Math.min(width, WINDOW.columns), Math.min(height, WINDOW.rows)];
}

// A value as people write it.
function shown(model, row, column) {
  const text = model.getFormattedCellValue(1, row, column);
  return model.getCellType(0, row, column) === NUMBER && text !== "" ? plainNumber(rounded(Number(text)), PLACES) : text;
}

function letters(column) {
  return column > 26 ? letters(Math.floor((column - 1) / 26)) + letters(((column - 1) % 26) + 1) : String.fromCharCode(64 + column);
}

try {
  await start();
  postMessage({ number: 0 });
} catch (error) {
  postMessage({ number: 0, error: error.message });
}
