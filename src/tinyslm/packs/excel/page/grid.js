// The sheet that a person edits, and beside it the cells that a formula gives.

import { parse } from "./csv.js";
import { byId, element } from "../dom.js";

export const MOST_ROWS = 200;
export const MOST_COLUMNS = 24;
const LONGEST = 200; // characters of a cell

export function letter(column) {
  return String.fromCharCode(65 + column);
}

export class Grid {
  result = []; // rows of texts

  // cells: rows of texts, the headers first. changed: called after every change.
  constructor(cells, changed) {
    Object.assign(this, { cells, changed });
    this.draw();
  }

  get height() {
    return this.cells.length;
  }

  get width() {
    return this.cells[0].length;
  }

  // The sheet without the empty rows at its end.
  get sheet() {
    const filled = this.cells.findLastIndex((row) => row.some((text) => text.trim()));
    return { headers: this.cells[0], rows: this.cells.slice(1, Math.max(filled + 1, 2)) };
  }

  // Replace all cells; returns the rows that do not fit.
  open(rows) {
    const width = Math.max(...rows.map((row) => row.findLastIndex((text) => text.trim()) + 1));
    this.clear(Math.max(2, Math.min(MOST_ROWS + 1, rows.length)), Math.min(MOST_COLUMNS, width));
    this.put(rows, 0, 0);
    this.draw();
    return Math.max(0, rows.length - MOST_ROWS - 1);
  }

  clear(height, width) {
    this.cells = [[]];
    this.resize(height, width);
    this.draw();
    this.changed();
  }

  resize(height, width) {
    this.cells = Array.from({ length: height }, (_, row) => Array.from({ length: width }, (_, column) => this.cells[row]?.[column] ?? ""));
  }

  // Write rows of texts at a place, as far as there are cells.
  put(rows, row, column) {
    for (const [down, line] of rows.entries()) {
      for (const [right, value] of line.entries()) {
        if (row + down < this.height && column + right < this.width) this.cells[row + down][column + right] = value.trim().slice(0, LONGEST);
      }
    }
  }

  addRow() {
    this.resize(this.height + 1, this.width);
    this.draw();
    this.changed();
    this.focus(this.height - 1, 0);
  }

  addColumn() {
    this.resize(this.height, this.width + 1);
    this.draw();
    this.changed();
    this.focus(0, this.width - 1);
  }

  focus(row, column) {
    this.rows[row]?.cells[column + 1].firstChild.focus();
  }

  get rows() {
    return byId("sheet").tBodies[0].rows;
  }

  draw() {
    const head = element("tr", {}, [
      element("th", { scope: "col", ariaLabel: "row" }),
      ...this.cells[0].map((_, column) => element("th", { scope: "col" }, [letter(column)])),
    ]);
    const rows = this.cells.map((row, at) =>
      element("tr", {}, [element("th", { scope: "row" }, [String(at + 1)]), ...row.map((text, column) => this.cell(text, at, column))]),
    );
    byId("sheet").replaceChildren(element("thead", {}, [head]), element("tbody", {}, rows));
    byId("more-rows").disabled = this.height > MOST_ROWS;
    byId("more-columns").disabled = this.width >= MOST_COLUMNS;
    this.show(this.result);
  }

  cell(text, row, column) {
    const input = element("input", { value: text, maxLength: LONGEST, ariaLabel: `${letter(column)}${row + 1}` });
    input.addEventListener("input", () => {
      this.cells[row][column] = input.value;
      this.changed();
    });
    input.addEventListener("keydown", (event) => {
      const step = { Enter: 1, ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) this.focus(row + step, column);
    });
    input.addEventListener("paste", (event) => this.paste(event, row, column));
    return element("td", {}, [input]);
  }

  // Several cells, as spreadsheets copy them: rows on lines, with tabs between cells.
  paste(event, row, column) {
    const text = event.clipboardData.getData("text/plain").replace(/\r?\n$/, "");
    if (!/[\t\n]/.test(text)) return;
    event.preventDefault();
    const lines = parse(text, "\t");
    const height = Math.min(MOST_ROWS + 1, Math.max(this.height, row + lines.length));
    const width = Math.min(MOST_COLUMNS, Math.max(this.width, column + Math.max(...lines.map((line) => line.length))));
    this.resize(height, width);
    this.put(lines, row, column);
    this.draw();
    this.changed();
  }

  // Show what a formula gives in columns at the right, from row 2 down, if it is more than one value.
  show(result) {
    this.result = result;
    const width = result.length > 1 || result[0]?.length > 1 ? Math.max(...result.map((row) => row.length)) : 0;
    for (const row of byId("sheet").rows) [...row.querySelectorAll(".result")].forEach((one) => one.remove());
    for (let column = 0; column < width; column += 1) {
      byId("sheet").tHead.rows[0].append(element("th", { scope: "col", className: "result" }, [column ? "" : "Result"]));
      for (const [at, row] of [...this.rows].entries()) {
        const text = at ? (result[at - 1]?.[column] ?? "") : "";
        row.append(element("td", { className: text.startsWith("#") ? "result wrong" : "result" }, [text]));
      }
    }
  }

  // Show which cells a formula reads.
  mark(formula) {
    const used = new Set();
    for (const [, a, first, b, last] of formula.matchAll(/\$?\b([A-Z])\$?(\d+)(?::\$?([A-Z])\$?(\d+))?/g)) {
      for (let column = a.charCodeAt(0); column <= (b ?? a).charCodeAt(0); column++) {
        for (let row = Number(first); row <= Math.min(Number(last ?? first), this.height); row++) used.add(`${column - 65} ${row - 1}`);
      }
    }
    for (const [at, row] of [...this.rows].entries()) {
      for (let column = 0; column < this.width; column += 1) row.cells[column + 1].classList.toggle("used", used.has(`${column} ${at}`));
    }
  }

  // The cells, and what the formula gives, in a column of its own.
  withResult() {
    const height = Math.max(this.height, this.result.length + 1);
    return Array.from({ length: height }, (_, at) => {
      const result = this.result.length ? (at ? (this.result[at - 1] ?? []) : ["Result"]) : [];
      return [...(this.cells[at] ?? Array(this.width).fill("")), ...result];
    });
  }
}
