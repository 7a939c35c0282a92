// Start the widgets of a page, and what they share. A chapter's script adds functions (root, data) to `widgets`.
"use strict";

const widgets = {};

function element(name, properties = {}, children = []) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

// An SVG element.
function svgElement(name, attributes = {}, children = []) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// A labelled slider; `act` gets its number now and at each change. `text` writes the number for people.
function slider(label, { min, max, step, value }, act, text = String) {
  const shown = element("output", {}, [text(value)]);
  const input = element("input", { type: "range", min, max, step, value });
  input.addEventListener("input", () => {
    shown.textContent = text(Number(input.value));
    act(Number(input.value));
  });
  return element("label", { className: "slider" }, [element("span", {}, [label]), input, shown]);
}

// A labelled choice of `names`; `act` gets the place of the chosen one.
function choice(label, names, act) {
  const options = names.map((name, value) => element("option", { value }, [name]));
  const select = element("select", {}, options);
  select.addEventListener("change", () => act(Number(select.value)));
  return element("label", { className: "choice" }, [element("span", {}, [label]), select]);
}

function percent(share) {
  const value = 100 * share;
  return value >= 99.95 ? "100 %" : value >= 0.1 ? `${value.toFixed(1)} %` : value > 0 ? "< 0.1 %" : "0 %";
}

// Rows with a name, a number and a bar: [{ name, share, faint, text }]; `text`: the number for people.
function bars(rows, label) {
  const most = Math.max(...rows.map(({ share }) => share), 1e-9);
  const body = rows.map(({ name, share, faint = false, text = percent(share) }) => {
    const bar = element("i");
    bar.style.width = `${(100 * share) / most}%`;
    return element("tr", { className: faint ? "faint" : "" }, [
      element("th", { scope: "row" }, [element("code", {}, [name])]),
      element("td", { className: "number" }, [text]),
      element("td", { className: "bar" }, [bar]),
    ]);
  });
  return element("table", { className: "bars", "aria-label": label }, [element("tbody", {}, body)]);
}

document.addEventListener("DOMContentLoaded", () => {
  for (const root of document.querySelectorAll("[data-widget]")) {
    widgets[root.dataset.widget](root, JSON.parse(root.querySelector("script").textContent));
  }
});
