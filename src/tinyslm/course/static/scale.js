// The chapter on scale: what a budget buys, and models of all sizes in the same time.
"use strict";

function short(number) {
  const [unit, name] = [[1e12, " T"], [1e9, " B"], [1e6, " M"], [1e3, " k"], [1, ""]].find(([one]) => number >= one)
    ?? [1, ""];
  return `${Number((number / unit).toPrecision(3)).toLocaleString("en")}${name}`;
}

function timeOf(minutes) {
  if (minutes < 60) return minutes === 1 ? "1 minute" : `${Number(minutes.toPrecision(3))} minutes`;
  return minutes === 60 ? "1 hour" : `${Number((minutes / 60).toPrecision(3))} hours`;
}

// A curve over a logarithmic axis: points [x, y, low, high] (the last two for a band), of which `now` is marked.
// yours: { x, y, name }; without y, a vertical line. ticks: [[x, text]].
function curve({ points, now, yours, ticks, label, across }, width) {
  const height = Math.round(Math.min(320, Math.max(220, 0.5 * width)));
  const [left, right, top, bottom] = [40, 14, 14, 44];
  const xs = [...points.map(([x]) => x), ...(yours ? [yours.x] : [])].map(Math.log);
  const ys = [...points.flatMap(([, ...rest]) => rest), ...(yours?.y ? [yours.y] : [])];
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const over = (x) => left + ((Math.log(x) - x0) / (x1 - x0 || 1)) * (width - left - right);
  const up = (y) => height - bottom - ((y - y0) / (y1 - y0 || 1)) * (height - top - bottom);
  const svg = svgElement("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (let step = 0; step <= 4; step += 1) {
    const y = y0 + (step / 4) * (y1 - y0);
    svg.append(svgElement("line", { class: "grid", x1: left, x2: width - right, y1: up(y), y2: up(y) }));
    svg.append(svgElement("text", { x: left - 6, y: up(y) + 4, "text-anchor": "end" }, [y.toFixed(2)]));
  }
  let end = -Infinity;
  for (const [x, text] of ticks) {
    const wide = 7 * text.length;
    const centre = Math.min(over(x), width - wide / 2);
    if (centre - wide / 2 < end + 8) continue;
    svg.append(svgElement("text", { x: centre, y: height - bottom + 18, "text-anchor": "middle" }, [text]));
    end = centre + wide / 2;
  }
  svg.append(svgElement("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, [across]));
  if (points[0].length > 2) {
    const low = points.map(([x, , y]) => `${over(x)},${up(y)}`);
    const high = points.map(([x, , , y]) => `${over(x)},${up(y)}`).reverse();
    svg.append(svgElement("polygon", { class: "band", points: [...low, ...high].join(" ") }));
  }
  svg.append(svgElement("polyline", { class: "line", points: points.map(([x, y]) => `${over(x)},${up(y)}`).join(" ") }));
  points.forEach(([x, y], number) => {
    const here = number === now;
    svg.append(svgElement("circle", { class: here ? "now" : "dot", cx: over(x), cy: up(y), r: here ? 7 : 3 }));
  });
  if (yours) {
    const x = over(yours.x);
    if (yours.y) {
      const y = up(yours.y);
      svg.append(svgElement("path", { class: "yours", d: `M${x - 7},${y}H${x + 7}M${x},${y - 7}V${y + 7}` }));
    } else svg.append(svgElement("line", { class: "yours", x1: x, x2: x, y1: top, y2: height - bottom }));
    const anchor = x > width / 2 ? "end" : "start";
    const shift = anchor === "end" ? -10 : 10;
    const y = yours.y ? up(yours.y) - 8 : top + 10;
    svg.append(svgElement("text", { class: "yours", x: x + shift, y, "text-anchor": anchor }, [yours.name]));
  }
  return svg;
}

function facts(rows, label) {
  const lines = rows.map(([name, value]) => element("tr", {}, [
    element("th", { scope: "row" }, [name]), element("td", { className: "number" }, [value]),
  ]));
  return element("div", { className: "scroll" }, [element("table", { "aria-label": label }, [element("tbody", {}, lines)])]);
}

const widthOf = (root) => Math.max(240, Math.round(root.clientWidth - 34));

widgets.budgets = (root, { plans, yours }) => {
  const place = element("div");
  const said = element("div", { "aria-live": "polite" });
  let now = 0;
  const draw = () => {
    const plan = plans[now];
    const [bits, low, high] = plan.bits;
    const own = yours && { x: yours.minutes, y: yours.bits, name: "your model" };
    place.replaceChildren(curve({
      points: plans.map((one) => [one.minutes, ...one.bits]), now, yours: own,
      ticks: plans.map(({ minutes }) => [minutes, timeOf(minutes)]), across: "training time, logarithmic scale",
      label: `Expected bits per byte, from ${plans[0].bits[0].toFixed(3)} in ${timeOf(plans[0].minutes)} to `
        + `${plans.at(-1).bits[0].toFixed(3)} in ${timeOf(plans.at(-1).minutes)}`,
    }, widthOf(root)));
    said.replaceChildren(facts([
      ["time", timeOf(plan.minutes)],
      ["expected bits per byte", `${bits.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`],
      ["parameters", short(plan.parameters)],
      ["width x layers", plan.shape],
      ["vocabulary", plan.vocabulary.toLocaleString("en")],
      ["context", `${plan.context.toLocaleString("en")} tokens`],
      ["tokens read", `${short(plan.tokens)}, ${Number(plan.epochs.toPrecision(2))} times the text`],
      ["memory", `${short(plan.memory)}B`],
    ], `The plan for ${timeOf(plan.minutes)}`));
  };
  const move = (number) => {
    now = number;
    draw();
  };
  const range = { min: 0, max: plans.length - 1, step: 1, value: 0 };
  root.append(slider("time", range, move, (number) => timeOf(plans[number].minutes)), place, said);
  draw();
  window.addEventListener("resize", draw);
};

widgets.sizes = (root, { budgets, yours }) => {
  const place = element("div");
  const said = element("p", { className: "said", "aria-live": "polite" });
  let chosen = 0;
  const draw = () => {
    const { minutes, sizes } = budgets[chosen];
    const bits = sizes.map(([, , one]) => one);
    const best = bits.indexOf(Math.min(...bits));
    place.replaceChildren(curve({
      points: sizes.map(([size, , one]) => [size, one]), now: best, yours: { x: yours, name: "your size" },
      ticks: sizes.map(([size]) => [size, short(size)]), across: "parameters",
      label: `Expected bits per byte by size in ${timeOf(minutes)}`,
    }, widthOf(root)));
    const [size, tokens, least] = sizes[best];
    said.textContent = `In ${timeOf(minutes)}, a model of ${short(size)} parameters that reads ${short(tokens)} tokens `
      + `does best: ${least.toFixed(3)} bits per byte. The largest, ${short(sizes.at(-1)[0])}, would read `
      + `${short(sizes.at(-1)[1])} tokens and reach ${bits.at(-1).toFixed(3)}.`;
  };
  const names = budgets.map(({ minutes }) => timeOf(minutes));
  root.append(choice("time", names, (number) => {
    chosen = number;
    draw();
  }), place, said);
  draw();
  window.addEventListener("resize", draw);
};
