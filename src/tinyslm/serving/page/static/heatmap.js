// Attention as a heat map: a square of cells under two strips of labels that stay visible.

import { byId, element, percent } from "./dom.js";

const LABELS = 92; // pixels that labels may take
const LEGIBLE = 11; // pixels of a cell from which on it has a label
const MOST = 3; // tokens named for each row in the text alternative

export class HeatMap {
  constructor(chosen) {
    this.chosen = chosen;
    this.frame = byId("map");
    [this.columns, this.rows, this.cells] = ["columns", "rows", "cells"].map((name) => this.frame.querySelector(`canvas.${name}`));
    this.cells.addEventListener("pointermove", (event) => this.pointed(event));
    this.cells.addEventListener("pointerdown", (event) => this.pointed(event, true));
    this.cells.addEventListener("keydown", (event) => this.move(event));
    this.cells.addEventListener("focus", () => this.mark(...(this.cell ?? [this.count - 1, 0])));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // labels: of the tokens; weights: one row per token, with a weight for it and each earlier token.
  show(labels, weights, where) {
    Object.assign(this, { labels, weights, count: labels.length, cell: null });
    const room = Math.max(240, this.frame.parentElement.clientWidth - LABELS);
    this.size = Math.max(this.count > 160 ? 4 : 12, Math.min(28, Math.floor(room / this.count)));
    this.cells.ariaLabel =
      `Heat map of attention in ${where}: ${this.count} by ${this.count} tokens. Arrow keys move from cell to cell; below is the same as text.`;
    byId("map-value").textContent = "";
    this.draw();
    this.table();
  }

  draw() {
    if (!this.labels) return;
    const style = getComputedStyle(this.frame);
    const colour = (name) => style.getPropertyValue(name).trim();
    const ink = colour("--ink");
    const side = this.count * this.size;
    const strip = this.size >= LEGIBLE ? LABELS : 8;
    const cells = surface(this.cells, side, side);
    cells.fillStyle = colour("--cell");
    cells.fillRect(0, 0, side, side);
    cells.fillStyle = colour("--heat");
    const gap = this.size > 8 ? 1 : 0;
    this.weights.forEach((row, from) => {
      row.forEach((share, to) => {
        cells.globalAlpha = share ** 0.6; // small shares are to be told from none
        cells.fillRect(to * this.size, from * this.size, this.size - gap, this.size - gap);
      });
    });
    cells.globalAlpha = 1;
    this.picture = cells.getImageData(0, 0, this.cells.width, this.cells.height);
    this.line = colour("--accent");
    const font = `${Math.min(12, this.size)}px ${style.fontFamily}`;
    const rows = surface(this.rows, strip, side);
    const columns = surface(this.columns, side, strip);
    for (const strip of [rows, columns]) Object.assign(strip, { fillStyle: ink, font, textBaseline: "middle" });
    if (strip < LABELS) return;
    rows.textAlign = "right";
    columns.rotate(-Math.PI / 2);
    this.labels.forEach((label, at) => {
      rows.fillText(short(label), strip - 6, (at + 0.5) * this.size);
      columns.fillText(short(label), -strip + 6, (at + 0.5) * this.size);
    });
  }

  pointed(event, click = false) {
    if (!this.weights) return;
    const box = this.cells.getBoundingClientRect();
    const [row, column] = [event.clientY - box.top, event.clientX - box.left].map((at) => Math.floor(at / this.size));
    if (row < 0 || row >= this.count || column < 0 || column >= this.count) return;
    this.mark(row, column);
    if (click) this.chosen(row);
  }

  move(event) {
    const [row, column] = this.cell ?? [this.count - 1, 0];
    const steps = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      Home: [row, 0], End: [row, row],
    };
    if (event.key === "Enter") this.chosen(row);
    const next = steps[event.key];
    if (!next) return;
    event.preventDefault();
    const [to, of] = next.map((at) => Math.min(this.count - 1, Math.max(0, at)));
    this.mark(to, of);
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.frame;
    const [x, y] = [of * this.size, to * this.size];
    if (x < scrollLeft || x > scrollLeft + clientWidth - 2 * LABELS) this.frame.scrollLeft = x - clientWidth / 3;
    if (y < scrollTop || y > scrollTop + clientHeight - 2 * LABELS) this.frame.scrollTop = y - clientHeight / 3;
  }

  // Frame a cell, and announce its value.
  mark(row, column) {
    if (!this.weights) return;
    this.cell = [row, column];
    this.frames();
    const share = this.weights[row][column];
    const [from, to] = [this.labels[row], this.labels[column]];
    byId("map-value").textContent =
      share === undefined
        ? `Token ${row + 1}, ${from}, comes before token ${column + 1}, ${to}, which it cannot attend to.`
        : `Token ${row + 1}, ${from}, attends ${percent(share)} to token ${column + 1}, ${to}.`;
  }

  // Frame the row of a token that was chosen elsewhere.
  row(place) {
    this.ruled = place;
    if (this.weights) this.frames();
  }

  frames() {
    const context = this.cells.getContext("2d");
    context.putImageData(this.picture, 0, 0);
    context.strokeStyle = this.line;
    context.lineWidth = 1.5;
    if (this.ruled < this.count) context.strokeRect(0.75, this.ruled * this.size + 0.75, (this.ruled + 1) * this.size - 1.5, this.size - 1.5);
    if (!this.cell) return;
    const [row, column] = this.cell;
    context.lineWidth = 2.5;
    context.strokeRect(column * this.size + 1, row * this.size + 1, this.size - 2, this.size - 2);
  }

  table() {
    const rows = this.weights.map((row, from) => {
      const best = row.map((share, to) => [share, to]).sort(([a], [b]) => b - a).slice(0, MOST);
      const words = best.map(([share, to]) => `${this.labels[to]} (${to + 1}) ${percent(share)}`).join(", ");
      return element("tr", {}, [element("th", { scope: "row" }, [`${from + 1} ${this.labels[from]}`]), element("td", {}, [words])]);
    });
    byId("map-text").querySelector("tbody").replaceChildren(...rows);
  }
}

// A canvas of this size in CSS pixels, sharp on high-resolution screens; large ones stay within browsers' limits.
function surface(canvas, width, height) {
  const scale = Math.min(window.devicePixelRatio || 1, 4096 / Math.max(width, height));
  canvas.width = Math.ceil(width * scale);
  canvas.height = Math.ceil(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.scale(scale, scale);
  return context;
}

function short(label) {
  return label.length > 12 ? `${label.slice(0, 11)}…` : label;
}
