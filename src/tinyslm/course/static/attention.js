// The chapter on attention: one head's weights, and the steps that lead to them (model/attention.py).

const heard = []; // called with (layer, head) when the reader chooses a head in another widget

// A query or key with its pairs turned: value i and value i + r / 2 are a pair (model/rotary.py).
function rotated(x, cos, sin) {
  const half = cos.length;
  return x.map((value, place) => {
    if (place < half) return value * cos[place] - x[place + half] * sin[place];
    if (place < 2 * half) return value * cos[place - half] + x[place - half] * sin[place - half];
    return value;
  });
}

function dot(a, b) {
  return a.reduce((total, value, place) => total + value * b[place], 0);
}

// Everything on the way from one token's query to what its head takes. Layers, heads, tokens count from 0.
function headSteps(data, layer, head, token) {
  const { group, q } = data.steps[`${layer},${head}`];
  const { k, v } = data.groups[group];
  const { rotation, scale, cap, window } = data.layers[layer];
  const turn = (x, place) =>
    rotation < 0 ? x : rotated(x, data.rotations[rotation].cos[place], data.rotations[rotation].sin[place]);
  const query = turn(q[token], token);
  const keys = k.map(turn);
  const products = keys.map((key) => dot(query, key));
  const scores = products.map((product) => (cap ? cap * Math.tanh((product * scale) / cap) : product * scale));
  const seen = keys.map((_, place) => place <= token && (!window || place > token - window));
  const most = Math.max(...scores.filter((_, place) => seen[place]));
  const powers = scores.map((score, place) => (seen[place] ? Math.exp(score - most) : 0));
  const total = powers.reduce((sum, one) => sum + one, 0);
  const weights = powers.map((one) => one / total);
  const out = v[0].map((_, dim) => weights.reduce((sum, weight, place) => sum + weight * v[place][dim], 0));
  return { plain: q[token], plainKeys: k, query, keys, products, scores, seen, most, powers, total, weights, values: v, out };
}

// The weights of a row, from the numbers for all heads.
function rowOf(data, layer, head, token) {
  const start = (token * (token + 1)) / 2;
  return data.weights[layer][head].slice(start, start + token + 1).map((one) => one / 10000);
}

function arcs(data, weights, token, choose) {
  const step = data.tokens.length > 24 ? 17 : 20;
  const [left, right] = [120, 300];
  const middle = (place) => step * place + step / 2;
  const rows = data.tokens.map((name, place) => {
    const said = place <= token ? percent(weights[place]) : "masked";
    const row = svgElement("g", { class: place === token ? "row chosen" : "row" }, [
      svgElement("rect", { x: 0, y: step * place, width: 360, height: step, fill: "transparent" }),
      svgElement("text", { x: left - 8, y: middle(place) + 4, "text-anchor": "end" }, [shortened(name, 14)]),
      svgElement("text", { x: 356, y: middle(place) + 4, "text-anchor": "end", class: place > token ? "hidden" : "" }, [said]),
    ]);
    row.addEventListener("click", () => choose(place));
    return row;
  });
  const lines = weights.slice(0, token + 1).map((weight, place) => {
    if (place === token) return svgElement("circle", { cx: left, cy: middle(token), r: 1.5 + 5 * weight });
    const out = left + 14 + ((right - left - 14) * (token - place)) / data.tokens.length;
    const curve = `M${left} ${middle(token)} C${out} ${middle(token)} ${out} ${middle(place)} ${left} ${middle(place)}`;
    return svgElement("path", { d: curve, "stroke-width": 0.4 + 9 * weight, "stroke-opacity": 0.25 + 0.75 * weight });
  });
  const label = `Arcs from ${quoted(data, token)} to the tokens that it attends to; the weights are in the table below.`;
  return svgElement("svg", { viewBox: `0 0 360 ${step * data.tokens.length}`, class: "arcs", role: "img", "aria-label": label },
    [...lines, ...rows]);
}

function heatMap(data, layer, head, token, choose) {
  const count = data.tokens.length;
  const cell = Math.max(7, Math.min(24, 330 / count));
  const margin = cell >= 10 ? 100 : 0;
  const nodes = [];
  for (let row = 0; row < count; row += 1) {
    const weights = rowOf(data, layer, head, row);
    nodes.push(svgElement("rect", { x: margin, y: cell * row, width: cell * count, height: cell, class: "empty" }));
    if (margin) {
      const place = { x: margin - 6, y: cell * row + cell / 2 + 4, "text-anchor": "end" };
      nodes.push(svgElement("text", { ...place, class: row === token ? "chosen" : "" }, [shortened(data.tokens[row], 12)]));
    }
    weights.forEach((weight, column) => {
      const square = { x: margin + cell * column, y: cell * row, width: cell - 0.5, height: cell - 0.5 };
      const title = svgElement("title", {}, [`${data.tokens[row]} attends to ${data.tokens[column]}: ${percent(weight)}`]);
      const node = svgElement("rect", { ...square, "fill-opacity": weight ** 0.6 }, [title]);
      node.addEventListener("click", () => choose(row));
      nodes.push(node);
    });
  }
  nodes.push(svgElement("rect", { x: margin, y: cell * token, width: cell * (token + 1), height: cell, class: "frame" }));
  const label = "Heat map of the weights of this head: rows are queries, columns are keys.";
  const box = `0 0 ${margin + cell * count} ${cell * count}`;
  return svgElement("svg", { viewBox: box, class: "map", role: "img", "aria-label": label }, nodes);
}

// The values of a vector as bars up and down from a line.
function vector(values, label) {
  const most = Math.max(...values.map(Math.abs), 1e-9);
  const width = 640 / values.length;
  const barsOf = values.map((value, place) => {
    const height = (28 * Math.abs(value)) / most;
    return svgElement("rect", { x: place * width, y: value > 0 ? 30 - height : 30, width: Math.max(1, width - 1), height });
  });
  const said = `${label}: ${values.length} values between ${shown(Math.min(...values))} and ${shown(Math.max(...values))}`;
  const line = svgElement("line", { x1: 0, x2: 640, y1: 30, y2: 30 });
  return svgElement("svg", { viewBox: "0 0 640 60", class: "vector", role: "img", "aria-label": said }, [...barsOf, line]);
}

function some(values) {
  const more = values.length > 4 ? `, … ${values.length - 4} more` : "";
  return `(${values.slice(0, 4).map((one) => shown(one)).join(", ")}${more})`;
}

const quoted = (data, place) => `“${data.tokens[place]}”`;
const text = (words) => element("p", {}, [words]);
const sum = (words) => element("p", { className: "sum" }, [words]);
const heading = (words) => element("h3", {}, [words]);

function rotationStep(data, steps, layer, token, looked) {
  const { rotation } = data.layers[layer];
  if (rotation < 0) return [heading("2. Rotation"), text("This layer does not rotate queries and keys.")];
  const { cos, sin } = data.rotations[rotation];
  const half = cos[0].length;
  const place = element("div", { "aria-live": "polite" });
  const draw = (pair) => {
    const [x, y] = [steps.plain[pair], steps.plain[pair + half]];
    const [c, s] = [cos[token][pair], sin[token][pair]];
    const speed = cos.length > 1 ? Math.atan2(sin[1][pair], cos[1][pair]) : 0;
    const stretch = Math.hypot(c, s);
    const lines = [
      sum(`angle = position × frequency = ${token} × ${speed.toPrecision(3)} = ${shown(token * speed)} (radians)`),
      sum(`cos = ${shown(c)}, sin = ${shown(s)}${Math.abs(stretch - 1) > 1e-4 ? ` (both times ${shown(stretch)}: rope scaling)` : ""}`),
      sum(`(${shown(x)}, ${shown(y)}) becomes (x·cos − y·sin, y·cos + x·sin) = ` +
        `(${shown(steps.query[pair])}, ${shown(steps.query[pair + half])})`),
    ];
    place.replaceChildren(...lines);
  };
  draw(0);
  const control = slider("pair", { min: 1, max: half, step: 1, value: 1 }, (value) => draw(value - 1));
  return [
    heading("2. Rotation"),
    text(`Values i and i + ${half} of the query are a pair. ${quoted(data, token)} is at position ${token}; the first token is at 0.`),
    control, place, distances(data, steps, layer, token, looked),
  ];
}

// The score of one query and one key, if the key stood further away or nearer.
function distances(data, steps, layer, token, looked) {
  const { rotation, scale } = data.layers[layer];
  const { cos, sin } = data.rotations[rotation];
  const most = cos.length - 1;
  const key = rotated(steps.plainKeys[looked], cos[0], sin[0]);
  const scores = cos.map((_, place) => scale * dot(rotated(steps.plain, cos[place], sin[place]), key));
  const [low, high] = [Math.min(...scores, 0), Math.max(...scores, 0)];
  const x = (place) => 20 + (320 * place) / Math.max(1, most);
  const y = (score) => 12 + (86 * (high - score)) / Math.max(1e-9, high - low);
  const real = token - looked;
  const points = scores.map((score, place) => `${x(place).toFixed(1)},${y(score).toFixed(1)}`).join(" ");
  const far = real === most ? 0 : most;
  const said = `${quoted(data, token)} and ${quoted(data, looked)} are ${real} apart: the score is ${shown(scores[real])}. ` +
    `If they were ${far} apart, the same two would have ${shown(scores[far])}.`;
  const picture = svgElement("svg", { viewBox: "0 0 400 130", class: "distances", role: "img", "aria-label": said }, [
    svgElement("line", { x1: 20, x2: 340, y1: y(0), y2: y(0) }),
    svgElement("polyline", { points }),
    svgElement("circle", { cx: x(real), cy: y(scores[real]), r: 4 }),
    svgElement("text", { x: 346, y: y(high) + 4 }, [shown(high, 1)]),
    svgElement("text", { x: 346, y: y(low) + 4 }, [shown(low, 1)]),
    svgElement("text", { x: 20, y: 124 }, ["0"]),
    svgElement("text", { x: 340, y: 124, "text-anchor": "end" }, [`${most} apart`]),
  ]);
  const start = "Only the distance matters. The line shows the score of this query and the key with the largest weight " +
    "at other distances; the dot is the actual distance. ";
  return element("div", {}, [text(start + said), picture]);
}

function scoreStep(data, steps, layer, token, looked) {
  const { scale, cap, window } = data.layers[layer];
  const terms = steps.query.slice(0, 3).map((value, dim) => `${shown(value)}×${shown(steps.keys[looked][dim])}`);
  const example = `${quoted(data, token)} · ${quoted(data, looked)} = ${terms.join(" + ")} + … = ${shown(steps.products[looked])}`;
  const header = ["token", "query · key", `× ${scale.toPrecision(3)}`];
  if (cap) header.push(`capped at ${cap}`);
  header.push("exp(score − greatest)", "weight");
  const rows = data.tokens.map((name, place) => {
    const cells = [element("code", {}, [name]), shown(steps.products[place]), shown(steps.products[place] * scale)];
    if (cap) cells.push(shown(steps.scores[place]));
    const why = place > token ? "masked: later" : "masked: outside the window";
    cells.push(...(steps.seen[place] ? [shown(steps.powers[place], 4), percent(steps.weights[place])] : [why, "0 %"]));
    return { cells, chosen: place === looked };
  });
  const visible = steps.seen.filter(Boolean).length;
  return [
    heading("3. Scores, mask, softmax"),
    sum(example),
    text(`The mask leaves ${visible} of ${data.tokens.length} tokens${window ? ` (window: ${window})` : ""}. The softmax ` +
      `takes exp of each score, less the greatest of them, ${shown(steps.most)}, and divides by the sum ` +
      `${shown(steps.total, 4)}.`),
    plainTable("Scores and weights", header, rows),
  ];
}

function sumStep(data, steps, layer, head, token) {
  const order = steps.weights.map((_, place) => place).sort((a, b) => steps.weights[b] - steps.weights[a]);
  const parts = order.slice(0, 3).filter((place) => steps.weights[place] > 0);
  const lines = parts.map((place, number) =>
    sum(`${number ? "+ " : ""}${shown(steps.weights[place], 4)} × ${some(steps.values[place])} of ${quoted(data, place)}`));
  const visible = steps.seen.filter(Boolean).length;
  if (visible > parts.length) lines.push(sum(`+ ${visible - parts.length} more`));
  return [
    heading("4. The weighted sum of the values"),
    ...lines,
    sum(`= ${some(steps.out)}`),
    vector(steps.out, "Output of the head"),
    text(`Multiplied by this head's rows of W_o, it becomes a vector of length ${shown(data.adds[layer][head][token])}.`),
  ];
}

function stepsOf(data, layer, head, token) {
  const steps = headSteps(data, layer, head, token);
  const looked = steps.weights.indexOf(Math.max(...steps.weights));
  const shared = data.grouped > 1 ? ` The ${data.grouped} heads of a group share keys and values.` : "";
  return [
    heading(`1. The query of ${quoted(data, token)}, the key of ${quoted(data, looked)}`),
    text(`The key is that of the token with the largest weight.${shared}`),
    sum(`query = ${some(steps.plain)}`),
    vector(steps.plain, "Query"),
    sum(`key = ${some(steps.plainKeys[looked])}`),
    vector(steps.plainKeys[looked], "Key"),
    ...rotationStep(data, steps, layer, token, looked),
    ...scoreStep(data, steps, layer, token, looked),
    ...sumStep(data, steps, layer, head, token),
  ];
}

widgets.attention = (root, data) => {
  const chosen = { layer: data.head[0], head: data.head[1], token: data.tokens.length - 1 };
  const place = element("div");
  const named = ({ kind, share }, number) => `${number + 1}${kind ? `: ${kind} ${percent(share)}` : ""}`;
  const layers = choice("layer", data.layers.map((_, number) => String(number + 1)), (layer) => set({ layer }));
  const heads = choice("head", data.kinds[0].map((_, number) => String(number + 1)), (head) => set({ head }));
  const names = data.tokens.map((name, number) => `${number}: ${name}`);
  const tokens = choice("query token", names, (token) => set({ token }));
  const select = (label) => label.querySelector("select");
  function set(changes) {
    Object.assign(chosen, changes);
    const { layer, head, token } = chosen;
    select(layers).value = layer;
    data.kinds[layer].forEach((kind, number) => { select(heads).options[number].textContent = named(kind, number); });
    select(heads).value = head;
    select(tokens).value = token;
    const choose = (other) => set({ token: other });
    const explained = `${layer},${head}` in data.steps;
    const weights = explained ? headSteps(data, layer, head, token).weights : rowOf(data, layer, head, token);
    const below = explained ? stepsOf(data, layer, head, token) : others();
    place.replaceChildren(
      element("div", { className: "pair" }, [
        arcs(data, weights, token, choose), heatMap(data, layer, head, token, choose),
      ]),
      ...below,
    );
  }
  function others() {
    const list = Object.keys(data.steps).map((key) => {
      const [layer, head] = key.split(",").map(Number);
      const { kind } = data.kinds[layer][head];
      const button = element("button", { type: "button" }, [`${layer + 1}.${head + 1}${kind ? ` ${kind}` : ""}`]);
      button.addEventListener("click", () => set({ layer, head }));
      return button;
    });
    return [text("To keep the page small, it has the steps of these heads only (layer.head):"), element("p", { className: "buttons" }, list)];
  }
  root.append(element("div", {}, [layers, heads, tokens]), place);
  set({});
  heard.push((layer, head) => set({ layer, head }));
};

widgets.heads = (root, { labels }) => {
  const said = element("p", { className: "said", "aria-live": "polite" });
  const { node } = grid({
    label: "Kinds of the heads: layers and heads",
    rows: labels.map((_, layer) => `layer ${layer + 1}`),
    columns: labels[0].map((_, head) => `head ${head + 1}`),
    cell: (layer, head) => {
      const { kind, share } = labels[layer][head];
      const title = `layer ${layer + 1}, head ${head + 1}: ${kind ? `${kind}, ${percent(share)}` : "no clear kind"}`;
      return { text: kind ? `${kind}\n${percent(share)}` : "–", share: kind ? share : 0, title, faint: !kind };
    },
    act: (layer, head) => {
      heard.forEach((one) => one(layer, head));
      said.textContent = `Layer ${layer + 1}, head ${head + 1} is shown above, step by step.`;
    },
  });
  root.append(node, said);
};
