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

const DRAWN = 20;

// The sentence, with what the model has not read yet set apart.
function cutSentence(tokens, after) {
  const read = element("strong", {}, [tokens.slice(0, after).join("")]);
  const rest = element("span", { className: "faint" }, [tokens.slice(after).join("")]);
  return element("p", { className: "sentence" }, [element("code", {}, [read, " | ", rest])]);
}

// How often each of the tokens is drawn; a token without a name is one of the others.
function drawnCounts(shares, faces) {
  const counts = new Map();
  for (let number = 0; number < DRAWN; number += 1) {
    let left = Math.random();
    let token = shares.findIndex((share) => (left -= share) < 0);
    if (token < 0) token = 0; // rounding
    const name = faces[token] ?? "another";
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].sort(([, one], [, other]) => other - one);
}

function namedRows({ faces, next }, shares) {
  const rows = faces.map((name, number) => ({ name, share: shares[number] }));
  if (next) {
    const [rank, name] = next;
    if (rank < rows.length) rows[rank].name = `${name} ← next`;
    else rows.push({ name: `${name} ← next`, share: shares[rank] });
  }
  const named = rows.reduce((total, { share }) => total + share, 0);
  rows.push({ name: "all others", share: Math.max(0, 1 - named), faint: true });
  return rows;
}

function saidOf({ logits, next }, shares) {
  const left = shares.filter((one) => one > 0).length.toLocaleString("en");
  const bits = shares.reduce((total, one) => (one > 0 ? total - one * Math.log2(one) : total), 0);
  const said = `${left} of ${logits.length.toLocaleString("en")} tokens can be chosen. The choice is as uncertain as `
    + `one among ${(2 ** bits).toFixed(1)} equally likely tokens.`;
  if (!next) return said;
  const share = shares[next[0]];
  const place = `The sentence goes on with ${next[1]}, number ${(next[0] + 1).toLocaleString("en")} by probability`;
  return `${said} ${place}${share > 0 ? `: ${(-Math.log2(share)).toFixed(1)} bits of surprise.` : ", which is left out."}`;
}

widgets.sampling = (root, { tokens, places }) => {
  const settings = { temperature: 1, topK: 0, topP: 1, minP: 0 };
  let [chosen, shares] = [places.length - 1, []];
  const place = element("div", { "aria-live": "polite" });
  const drawn = element("p", { className: "said", "aria-live": "polite" });
  const draw = () => {
    const now = places[chosen];
    shares = filtered(now.logits, settings);
    drawn.textContent = "";
    place.replaceChildren(
      cutSentence(tokens, now.after),
      bars(namedRows(now, shares), "Probabilities of the next token"),
      element("p", { className: "said" }, [saidOf(now, shares)]),
    );
  };
  const change = (name) => (value) => {
    settings[name] = value;
    draw();
  };
  const cut = (number) => {
    chosen = number;
    draw();
  };
  const range = { min: 0, max: places.length - 1, step: 1, value: chosen };
  const controls = [
    slider("after token", range, cut, (number) => String(places[number].after)),
    slider("temperature", { min: 0.1, max: 2, step: 0.1, value: 1 }, change("temperature"), (x) => x.toFixed(1)),
    slider("top-k", { min: 0, max: 50, step: 1, value: 0 }, change("topK"), (x) => (x ? String(x) : "off")),
    slider("top-p", { min: 0.05, max: 1, step: 0.05, value: 1 }, change("topP"), (x) => (x < 1 ? x.toFixed(2) : "off")),
    slider("min-p", { min: 0, max: 0.5, step: 0.01, value: 0 }, change("minP"), (x) => (x ? x.toFixed(2) : "off")),
  ];
  const button = element("button", { type: "button" }, [`draw ${DRAWN} tokens`]);
  button.addEventListener("click", () => {
    const counts = drawnCounts(shares, places[chosen].faces);
    drawn.textContent = `Drawn: ${counts.map(([name, times]) => `${name} (${times})`).join(", ")}.`;
  });
  root.append(element("div", { className: "controls" }, controls), place, button, drawn);
  draw();
};
