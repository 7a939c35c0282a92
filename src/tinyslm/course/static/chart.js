// Line charts that a script draws, and redraws when the page's width changes.
"use strict";

const DASHES = ["", "7 4", "2 3", "10 3 2 3"];
const SCALES = { linear: (x) => x, root: Math.sqrt, log: (x) => Math.log(Math.max(x, 1e-9)) };

function brief(value) {
  if (value >= 1e6) return value.toExponential(0).replace("+", "");
  return value < 1 ? String(Number(value.toPrecision(3))) : Number(value.toPrecision(3)).toLocaleString("en");
}

// About `most` round numbers from `low` to `high`; of a logarithm: 1, 10, 100.
function ticks(low, high, most, scale) {
  if (scale === "log") {
    const found = [];
    const [first, last] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
    const step = Math.max(1, Math.ceil((last - first) / most));
    for (let power = first; power <= last; power += step) found.push(10 ** power);
    return found;
  }
  const rough = (high - low) / most || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * unit).find((one) => one >= rough);
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(value);
  return found;
}

// A line in words, for screen readers.
function inWords({ name, y }) {
  const known = y.filter((value) => value !== null);
  const ends = `${name} from ${brief(known[0])} to ${brief(known.at(-1))}`;
  return `${ends}, at most ${brief(Math.max(...known))}, at least ${brief(Math.min(...known))}`;
}

// A chart of series [{ name, x, y }]: each line has dashes of its own. Values of null are left out.
// scales: of x and y, names of SCALES; range: the lowest and the highest y; from: an x to begin at; mark: an x with a line through it.
function lineChart({ series, title, xTitle, scales = ["linear", "linear"], range, from, mark, height = 220 }, width) {
  const [xScale, yScale] = scales.map((name) => SCALES[name]);
  const points = series.flatMap(({ x, y }) => x.map((one, place) => [one, y[place]])).filter(([, y]) => y !== null);
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, right] = [Math.min(from ?? Infinity, ...xs), Math.max(...xs)];
  const [low, high] = range ?? [Math.min(...ys), Math.max(...ys)];
  const box = { left: 44, right: width - 12, top: 12, bottom: height - 40 };
  const part = (scale, from, to, value) => (scale(value) - scale(from)) / (scale(to) - scale(from) || 1);
  const across = (x) => box.left + part(xScale, left, right, x) * (box.right - box.left);
  const down = (y) => box.bottom - Math.min(1, Math.max(0, part(yScale, low, high, y))) * (box.bottom - box.top);
  const node = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
  node.setAttribute("aria-label", `${title}: ${series.map(inWords).join("; ")}`);
  const write = (x, y, anchor, text) => node.append(svgElement("text", { x, y, "text-anchor": anchor }, [text]));
  for (const value of ticks(low, high, 4, scales[1])) {
    node.append(svgElement("path", { class: "grid", d: `M${box.left} ${down(value)}H${box.right}` }));
    write(box.left - 6, down(value) + 4, "end", brief(value));
  }
  for (const value of ticks(left, right, 4, scales[0] === "log" ? "log" : "")) {
    write(across(value), box.bottom + 16, "middle", brief(value));
  }
  write((box.left + box.right) / 2, height - 6, "middle", xTitle);
  series.forEach(({ x, y }, number) => {
    let pen = "M";
    const path = x.map((one, place) => {
      if (y[place] === null) return "";
      const step = `${pen}${across(one).toFixed(1)} ${down(y[place]).toFixed(1)}`;
      pen = "L";
      return step;
    });
    const dashes = DASHES[number % DASHES.length];
    node.append(svgElement("path", { class: `line line-${number}`, d: path.join(""), "stroke-dasharray": dashes }));
  });
  if (mark !== undefined) {
    node.append(svgElement("path", { class: "mark", d: `M${across(mark)} ${box.top}V${box.bottom}` }));
  }
  return node;
}

// The names of the lines, each next to a piece of its line.
function legend(series) {
  const items = series.map(({ name }, number) => {
    const piece = svgElement("svg", { viewBox: "0 0 30 8", width: 30, height: 8, "aria-hidden": "true" });
    const look = { class: `line line-${number}`, d: "M0 4H30", "stroke-dasharray": DASHES[number % DASHES.length] };
    piece.append(svgElement("path", look));
    return element("li", {}, [piece, ` ${name}`]);
  });
  return element("ul", { className: "legend" }, items);
}

// A figure with the chart; `figure.change` draws it again with changed options.
function chart(options) {
  const place = element("div");
  const figure = element("figure", { className: "chart" }, [
    element("figcaption", {}, [options.title]),
    ...(options.series.length > 1 ? [legend(options.series)] : []),
    place,
  ]);
  let now = options;
  let width = 0;
  const draw = () => place.replaceChildren(lineChart(now, width));
  new ResizeObserver(([{ contentRect }]) => {
    const found = Math.max(200, Math.floor(contentRect.width));
    if (found === width) return;
    width = found;
    draw();
  }).observe(place);
  figure.change = (changes) => {
    now = { ...now, ...changes };
    if (width) draw();
  };
  return figure;
}

// Charts side by side where there is room.
widgets.charts = (root, { charts }) => {
  root.append(element("div", { className: "side-by-side" }, charts.map(chart)));
};
