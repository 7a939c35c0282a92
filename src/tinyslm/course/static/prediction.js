// The chapter on prediction: the engine's filters over one distribution (inference/sampler.py).

// Shares of the tokens, whose logits descend, after temperature, top_k, top_p and min_p.
function filtered(logits, { temperature, topK, topP, minP }) {
  let weights = logits.map((logit) => Math.exp((logit - logits[0]) / temperature));
  const sum = () => weights.reduce((total, one) => total + one, 0);
  if (topK) weights = weights.map((one, place) => (logits[place] >= logits[topK - 1] ? one : 0));
  if (topP < 1) {
    const enough = topP * sum();
    let before = 0;
    weights = weights.map((one) => {
      const kept = before < enough ? one : 0;
      before += one;
      return kept;
    });
  }
  if (minP) weights = weights.map((one) => (one >= minP ? one : 0));
  const total = sum();
  return weights.map((one) => one / total);
}

widgets.sampling = (root, { faces, logits }) => {
  const settings = { temperature: 1, topK: 0, topP: 1, minP: 0 };
  const place = element("div", { "aria-live": "polite" });
  const draw = () => {
    const shares = filtered(logits, settings);
    const rows = faces.map((name, number) => ({ name, share: shares[number] }));
    const more = shares.slice(faces.length).reduce((total, one) => total + one, 0);
    rows.push({ name: "all others", share: more, faint: true });
    const left = shares.filter((one) => one > 0).length.toLocaleString("en");
    const said = `${left} of ${logits.length.toLocaleString("en")} tokens can be chosen.`;
    place.replaceChildren(bars(rows, "Probabilities of the next token"), element("p", { className: "said" }, [said]));
  };
  const change = (name) => (value) => {
    settings[name] = value;
    draw();
  };
  const controls = [
    slider("temperature", { min: 0.1, max: 2, step: 0.1, value: 1 }, change("temperature"), (x) => x.toFixed(1)),
    slider("top-k", { min: 0, max: 50, step: 1, value: 0 }, change("topK"), (x) => (x ? String(x) : "off")),
    slider("top-p", { min: 0.05, max: 1, step: 0.05, value: 1 }, change("topP"), (x) => (x < 1 ? x.toFixed(2) : "off")),
    slider("min-p", { min: 0, max: 0.5, step: 0.01, value: 0 }, change("minP"), (x) => (x ? x.toFixed(2) : "off")),
  ];
  root.append(element("div", { className: "controls" }, controls), place);
  draw();
};
