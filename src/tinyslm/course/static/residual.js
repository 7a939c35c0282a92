// The chapter on the residual stream: the logit lens, and parts that are switched off.

widgets.lens = (root, { tokens, top, next, faces }) => {
  const place = element("div", { "aria-live": "polite" });
  const named = (layer) => (layer ? `layer ${layer}` : "embeddings");
  const draw = (layer, token) => {
    const rows = top[layer][token].map(([id, share]) => ({ name: faces[id], share }));
    const real = next[layer][token];
    const said = real
      ? `The next token, “${tokens[token + 1]}”, has ${percent(real[0])} here, and rank ${real[1].toLocaleString("en")}.`
      : "The sentence ends here.";
    place.replaceChildren(
      element("h3", {}, [`After “${tokens[token]}”, ${layer ? `after layer ${layer}` : "from the embeddings"}`]),
      bars(rows, "Likeliest next tokens"),
      element("p", { className: "said" }, [said]),
    );
  };
  const { node, choose } = grid({
    label: "Likeliest next token after each layer, at each token of the sentence",
    corner: "after",
    rows: top.map((_, layer) => named(layer)),
    columns: tokens.map((name) => shortened(name, 10)),
    cell: (layer, token) => {
      const [id, share] = top[layer][token][0];
      const right = token + 1 < tokens.length && faces[id] === tokens[token + 1];
      const title = `${named(layer)}, after ${tokens[token]}: ${faces[id]}, ${percent(share)}${right ? ", right" : ""}`;
      return { text: `${right ? "✓ " : ""}${shortened(faces[id], 10)}\n${percent(share)}`, share, title };
    },
    act: draw,
  });
  root.append(node, element("p", { className: "said" }, ["✓: it is the token that does follow."]), place);
  choose(top.length - 1, tokens.length - 1);
  draw(top.length - 1, tokens.length - 1);
};

// By how much the bits per byte change without a part.
function dearer(data, one, measure = (part) => part.bits) {
  return measure(one) - measure(data.whole);
}

function nextTable(data, one) {
  const rows = one.next.map(([id, whole, without]) => ({
    cells: [element("code", {}, [data.faces[id]]), percent(whole), percent(without), signed(100 * (without - whole), 1)],
  }));
  return plainTable("Likeliest tokens after the sentence", ["next token", "whole model", "without it", "points"], rows);
}

// The tokens of the sentence with the change of their bits.
function changes(data, one) {
  const pieces = data.tokens.slice(1).map((name, place) => {
    const change = one.token_bits[place] - data.whole.token_bits[place];
    const said = element("small", {}, [signed(change, 1)]);
    const piece = element("span", { className: "piece" }, [element("code", {}, [name]), said]);
    piece.style.setProperty("--share", `${Math.round(60 * Math.min(1, Math.max(0, change / 6)))}%`);
    return piece;
  });
  return element("p", { className: "pieces" }, pieces);
}

function partName({ layer, kind }) {
  if (typeof kind === "number") return `head ${kind} of layer ${layer}`;
  return kind === "layer" ? `the whole layer ${layer}` : `the ${kind} of layer ${layer}`;
}

widgets.ablation = (root, data) => {
  const kinds = [...Array.from({ length: data.heads }, (_, number) => number + 1), "attention", "feed-forward", "layer"];
  const part = (layer, column) => data.parts[layer * kinds.length + column];
  const most = Math.max(...data.parts.map((one) => Math.abs(dearer(data, one))), 1e-9);
  const place = element("div", { "aria-live": "polite" });
  const draw = (layer, column) => {
    const one = part(layer, column);
    const line = (name, measure, error) => ({
      cells: [name, shown(measure(data.whole)), shown(measure(one)),
        signed(dearer(data, one, measure)) + (error === undefined ? "" : ` ± ${shown(error)}`)],
    });
    const rows = [line("this sentence", (found) => found.bits)];
    if (one.held_out) rows.push(line(`${data.held_out_tokens.toLocaleString("en")} held-out tokens`, (found) => found.held_out[0], one.held_out[1]));
    place.replaceChildren(
      element("h3", {}, [`Without ${partName(one)}`]),
      plainTable("Bits per byte", ["bits per byte", "whole model", "without it", "change"], rows),
      element("div", { className: "pair" }, [
        element("div", {}, [element("h3", {}, ["After the sentence"]), nextTable(data, one)]),
        element("div", {}, [element("h3", {}, ["Additional bits for each token"]), changes(data, one)]),
      ]),
    );
  };
  const { node, choose } = grid({
    label: "Change of the bits per byte of the sentence without each part",
    rows: Array.from({ length: data.layers }, (_, layer) => `layer ${layer + 1}`),
    columns: kinds.map((kind) => (typeof kind === "number" ? `head ${kind}` : kind === "layer" ? "both" : kind)),
    cell: (layer, column) => {
      const change = dearer(data, part(layer, column));
      const title = `without ${partName(part(layer, column))}: ${signed(change)} bits per byte`;
      return { text: signed(change), share: Math.max(0, change / most) ** 0.5, title };
    },
    act: draw,
  });
  const worst = data.parts.reduce((best, one, number) => (one.bits > data.parts[best].bits ? number : best), 0);
  root.append(node, place);
  choose(Math.floor(worst / kinds.length), worst % kinds.length);
  draw(Math.floor(worst / kinds.length), worst % kinds.length);
};
