// A table of buttons, one of which is chosen; arrow keys go from one to another. Used by several chapters.

// rows, columns: their names. cell(row, column): { text, share (0 to 1, its shade), title, faint }. act(row, column)
// is called when the reader chooses one. Returns { node, choose }; `choose` marks one without calling `act`.
function grid({ label, rows, columns, cell, act, corner = "" }) {
  const buttons = rows.map((_, row) => columns.map((_, column) => {
    const { text, share = 0, title, faint = false } = cell(row, column);
    const button = element("button", { type: "button", title, tabIndex: -1, className: faint ? "faint" : "" }, [text]);
    button.setAttribute("aria-label", title);
    button.style.setProperty("--share", `${Math.round(45 * Math.min(1, share))}%`);
    button.addEventListener("click", () => { choose(row, column); act(row, column); });
    button.addEventListener("keydown", (event) => move(event, row, column));
    return button;
  }));
  let chosen = null;
  function choose(row, column) {
    if (chosen) {
      chosen.setAttribute("aria-pressed", "false");
      chosen.tabIndex = -1;
    } else buttons[0][0].tabIndex = -1;
    chosen = buttons[row][column];
    chosen.setAttribute("aria-pressed", "true");
    chosen.tabIndex = 0;
  }
  function move(event, row, column) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const [down, right] = steps[event.key] ?? [0, 0];
    const next = (down || right) && buttons[row + down]?.[column + right];
    if (!next) return;
    event.preventDefault();
    buttons[row][column].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
  buttons[0][0].tabIndex = 0;
  const head = [corner, ...columns].map((name) => element("th", { scope: "col" }, [name]));
  const body = rows.map((name, row) => element("tr", {}, [
    element("th", { scope: "row" }, [name]), ...buttons[row].map((button) => element("td", {}, [button])),
  ]));
  const table = element("table", { className: "grid" }, [
    element("thead", {}, [element("tr", {}, head)]), element("tbody", {}, body),
  ]);
  table.setAttribute("aria-label", label);
  return { node: element("div", { className: "scroll" }, [table]), choose };
}

// A number for people: three digits behind the point at most, with a real minus sign.
function shown(value, digits = 3) {
  if (Object.is(value, -Infinity)) return "−∞";
  const text = Math.abs(value) >= 1e4 ? value.toExponential(2) : value.toFixed(digits);
  return text.replace(/^-/, Number(text) === 0 ? "" : "−");
}

function signed(value, digits = 3) {
  return (value >= 0 ? "+" : "") + shown(value, digits);
}

// A table: a header, and rows of cells of which the first names the row. Cells are texts or nodes.
function plainTable(label, header, rows) {
  const line = (cells, chosen) => element("tr", { className: chosen ? "chosen" : "" }, cells.map((one, place) =>
    element(place ? "td" : "th", place ? { className: "number" } : { scope: "row" }, [one])));
  const head = header.map((name, place) => element("th", { scope: "col", className: place ? "number" : "" }, [name]));
  const table = element("table", { className: "plain" }, [
    element("thead", {}, [element("tr", {}, head)]),
    element("tbody", {}, rows.map(({ cells, chosen = false }) => line(cells, chosen))),
  ]);
  table.setAttribute("aria-label", label);
  return element("div", { className: "scroll" }, [table]);
}

function shortened(text, most) {
  const characters = [...text];
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : text;
}
