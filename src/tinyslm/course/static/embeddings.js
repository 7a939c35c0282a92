// The chapter on embeddings: neighbours of a token, and a map whose points move from one state of the model to the next.
"use strict";

// Boxes of labels that are drawn already; a label that would touch one is left out.
class Labels {
  constructor() {
    this.boxes = [];
  }

  fits(x, y, text) {
    const wide = 7.3 * text.length + 4;
    const box = [x - wide / 2, y - 8, x + wide / 2, y + 8];
    const free = this.boxes.every((one) => box[2] < one[0] || one[2] < box[0] || box[3] < one[1] || one[3] < box[1]);
    if (free) this.boxes.push(box);
    return free;
  }
}

// The map of one state, `width` pixels wide; each axis has its own scale. zoom: 1 shows all; the chosen token is in the middle of larger ones.
function tokenMap({ tokens, mapped, kinds, faces, reach }, state, chosen, zoom, width) {
  const height = Math.round(Math.min(520, Math.max(300, 0.7 * width)));
  const scaleX = (zoom * (width / 2 - 30)) / reach[0];
  const scaleY = (zoom * (height / 2 - 20)) / reach[1];
  const place = tokens.indexOf(chosen);
  const [cx, cy] = zoom > 1 && place < mapped ? state.points[place] : [0, 0];
  const at = ([x, y]) => [width / 2 + scaleX * (x - cx), height / 2 - scaleY * (y - cy)];
  const near = state.near[place].filter((_, number) => number % 2 === 0);
  const on = new Map(tokens.slice(0, mapped).map((token, number) => [token, number]));
  const name = `Map of ${mapped} tokens. The nearest of ${faces[chosen]}: ${near.map((one) => faces[one]).join(", ")}`;
  const svg = svgElement("svg", { class: "map", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name });
  const [ox, oy] = at([0, 0]);
  svg.append(svgElement("line", { class: "axis", x1: 0, x2: width, y1: oy, y2: oy }));
  svg.append(svgElement("line", { class: "axis", x1: ox, x2: ox, y1: 0, y2: height }));
  if (on.has(chosen)) {
    const [x1, y1] = at(state.points[place]);
    for (const one of near.filter((token) => on.has(token))) {
      const [x2, y2] = at(state.points[on.get(one)]);
      svg.append(svgElement("line", { class: "link", x1, y1, x2, y2 }));
    }
    svg.append(svgElement("circle", { class: "chosen", cx: x1, cy: y1, r: 11 }));
  }
  const labels = new Labels();
  const first = [chosen, ...near].filter((token) => on.has(token));
  for (const token of new Set([...first, ...on.keys()])) {
    const number = on.get(token);
    const [x, y] = at(state.points[number]);
    if (x < 0 || x > width || y < 0 || y > height) continue;
    const kind = token === chosen ? "chosen" : near.includes(token) ? "near" : kinds[number];
    const title = svgElement("title", {}, [faces[token]]);
    if (labels.fits(x, y, faces[token])) {
      svg.append(svgElement("text", { class: kind, x, y: y + 4, "text-anchor": "middle" }, [faces[token], title]));
    } else svg.append(svgElement("circle", { cx: x, cy: y, r: 2.5 }, [title]));
  }
  return svg;
}

// A search field and a choice of the tokens that it leaves; `act` gets the chosen one.
function tokenChoice(tokens, faces, act) {
  const search = element("input", { type: "search", autocomplete: "off", spellcheck: false });
  const select = element("select");
  const fill = () => {
    const wanted = search.value.replaceAll(" ", "·").toLowerCase();
    const found = tokens.filter((token) => faces[token].toLowerCase().includes(wanted));
    select.replaceChildren(...found.map((token) => element("option", { value: token }, [faces[token]])));
    if (found.length) act(found[0]);
  };
  search.addEventListener("input", fill);
  select.addEventListener("change", () => act(Number(select.value)));
  return [
    [element("label", { className: "choice" }, [element("span", {}, ["search"]), search]),
      element("label", { className: "choice" }, [element("span", {}, ["token"]), select])],
    fill,
  ];
}

widgets.space = (root, data) => {
  const { tokens, mapped, faces, states } = data;
  const points = states.flatMap((state) => state.points);
  const reach = [0, 1].map((axis) => Math.max(...points.map((point) => Math.abs(point[axis])), 1e-9));
  const world = { ...data, reach };
  const shown = { token: tokens[0], state: states.length - 1, zoom: 1 };
  const list = element("div", { "aria-live": "polite" });
  const map = element("div");
  const draw = () => {
    const state = states[shown.state];
    const near = state.near[tokens.indexOf(shown.token)];
    const rows = near.filter((_, number) => number % 2 === 0).map((token, number) => {
      const similar = near[2 * number + 1];
      return { name: faces[token], share: Math.max(0, similar), text: similar.toFixed(3) };
    });
    const [one, two] = state.shares;
    const where = tokens.indexOf(shown.token) < mapped ? "" : ` ${faces[shown.token]} is not on the map.`;
    const said = `Across: ${percent(one)} of the variance; up: ${percent(two)}, on a scale of its own.${where}`;
    list.replaceChildren(bars(rows, `The tokens nearest to ${faces[shown.token]}, by cosine`));
    const width = Math.max(240, Math.round(root.clientWidth - 34));
    map.replaceChildren(
      tokenMap(world, state, shown.token, shown.zoom, width), element("p", { className: "said" }, [said]),
    );
  };
  const change = (name) => (value) => {
    shown[name] = value;
    draw();
  };
  const [choices, fill] = tokenChoice(tokens, faces, change("token"));
  const sliders = [slider("zoom", { min: 1, max: 8, step: 0.5, value: 1 }, change("zoom"), (x) => `${x} x`)];
  if (states.length > 1) {
    const updates = (number) => states[number].step.toLocaleString("en");
    const range = { min: 0, max: states.length - 1, step: 1, value: states.length - 1 };
    sliders.unshift(slider("updates", range, change("state"), updates));
  }
  root.append(...choices, element("div", { className: "controls" }, sliders), list, map);
  fill();
  window.addEventListener("resize", draw);
};
