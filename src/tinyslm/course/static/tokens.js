// The chapter on tokens: merges of a sentence, merges that are learned, sizes of vocabularies.
"use strict";

// Pieces of a text as boxes: [{ face, marked }]. A word's end is a gap.
function pieces(words) {
  const boxes = words.map((word) =>
    element("span", { className: "word" }, word.map(({ face, marked = false }) =>
      element(marked ? "mark" : "span", { className: "token" }, [face]))));
  return element("p", { className: "tokens" }, boxes);
}

function merged(words, [, left, right, token]) {
  return words.map((word) => {
    const out = [];
    for (const one of word) {
      if (out.length && out[out.length - 1] === left && one === right) out[out.length - 1] = token;
      else out.push(one);
    }
    return out;
  });
}

widgets.merges = (root, { words, merges, faces, known }) => {
  const place = element("div", { "aria-live": "polite" });
  const draw = (steps) => {
    const state = merges.slice(0, steps).reduce(merged, words);
    const last = steps ? merges[steps - 1] : null;
    const total = state.reduce((sum, word) => sum + word.length, 0);
    let said = "No merges yet: single bytes.";
    if (last) {
      const [rank, left, right, token, places] = last;
      const number = `merge ${(rank + 1).toLocaleString("en")} of ${known.toLocaleString("en")}`;
      const where = places === 1 ? "1 place" : `${places} places`;
      said = `${faces[left]} and ${faces[right]} become ${faces[token]} (${number}, token ${token}) in ${where}.`;
    }
    const shown = state.map((word) => word.map((one) => ({ face: faces[one], marked: last && one === last[3] })));
    place.replaceChildren(pieces(shown), element("p", { className: "said" }, [`${said} ${total} tokens.`]));
  };
  const start = Math.min(1, merges.length);
  root.append(
    slider("merges", { min: 0, max: merges.length, step: 1, value: start }, draw, (n) => `${n} / ${merges.length}`),
    place,
  );
  draw(start);
};

widgets.learning = (root, steps) => {
  const place = element("div", { "aria-live": "polite" });
  const draw = (number) => {
    const pairs = steps[number - 1];
    const rows = pairs.map(([left, right, times]) => ({
      name: `${left} ${right}`, share: times, text: times.toLocaleString("en"),
    }));
    const learned = steps.slice(0, number).map(([[left, right]]) => ({ face: left + right, marked: false }));
    learned[number - 1].marked = true;
    const [left, right] = pairs[0];
    place.replaceChildren(
      bars(rows, "How often pairs occur"),
      element("p", { className: "said" }, [`${left} and ${right} are merged. Tokens learned until now:`]),
      pieces([learned]),
    );
  };
  root.append(
    slider("merge", { min: 1, max: steps.length, step: 1, value: 1 }, draw, (n) => `${n} / ${steps.length}`), place,
  );
  draw(1);
};

widgets.vocabularies = (root, { rows, blocks, context }) => {
  const place = element("div", { "aria-live": "polite" });
  const say = (number) => Math.round(number).toLocaleString("en");
  const draw = (number) => {
    const { size, faces, length, table } = rows[number];
    const lines = [
      ["tokens of your sentence", faces.length],
      ["bytes per token of other text", length.toFixed(2)],
      [`bytes in a context of ${say(context)} tokens`, say(context * length)],
      ["parameters of the table", `${say(table)} (${percent(table / (table + blocks))} of the model)`],
      ["parameters of the layers", say(blocks)],
    ].map(([name, value]) => element("tr", {}, [
      element("th", { scope: "row" }, [name]), element("td", { className: "number" }, [String(value)]),
    ]));
    const costs = element("table", { "aria-label": `Costs of ${size} tokens` }, [element("tbody", {}, lines)]);
    place.replaceChildren(
      pieces([faces.map((face) => ({ face }))]), element("div", { className: "scroll" }, [costs]),
    );
  };
  const middle = Math.min(2, rows.length - 1);
  root.append(
    slider("vocabulary", { min: 0, max: rows.length - 1, step: 1, value: middle }, draw, (n) => say(rows[n].size)),
    place,
  );
  draw(middle);
};
