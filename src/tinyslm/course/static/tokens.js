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

// The bytes of each word of a text, as ids.
function wordsOf(text, { split, bytes }) {
  const encoder = new TextEncoder();
  const found = text.matchAll(new RegExp(split, "gu"));
  return Array.from(found, ([word]) => Array.from(encoder.encode(word), (byte) => bytes[byte]));
}

// The merges of a text, as inspection/merging.py finds them: [[rank, left, right, token, places]].
function mergesOf(words, ranks) {
  const found = [];
  let state = words;
  for (;;) {
    const known = state.flatMap((word) => word.slice(1).map((right, place) => ranks.get(`${word[place]} ${right}`)));
    const first = known.reduce((best, one) => (one && (!best || one[0] < best[0]) ? one : best), undefined);
    if (!first) return found;
    const next = state.map((word) => merged([word], first)[0]);
    const count = (list) => list.reduce((sum, word) => sum + word.length, 0);
    found.push([...first, count(state) - count(next)]);
    state = next;
  }
}

function ranksOf({ merges }) {
  const ranks = new Map();
  merges.forEach(([left, right, token], rank) => {
    if (!ranks.has(`${left} ${right}`)) ranks.set(`${left} ${right}`, [rank, left, right, token]);
  });
  return ranks;
}

function saidOfMerge(merge, faces, known) {
  if (!merge) return "No merges yet: single bytes.";
  const [rank, left, right, token, places] = merge;
  const number = `merge ${(rank + 1).toLocaleString("en")} of ${known.toLocaleString("en")}`;
  const where = places === 1 ? "1 place" : `${places} places`;
  return `${faces[left]} and ${faces[right]} become ${faces[token]} (${number}, token ${token}) in ${where}.`;
}

widgets.merges = (root, { words, merges, faces, known, rules }) => {
  const place = element("div", { "aria-live": "polite" });
  const holder = element("div");
  const show = (now, begin) => {
    const draw = (steps) => {
      const state = now.merges.slice(0, steps).reduce(merged, now.words);
      const last = now.merges[steps - 1];
      const total = state.reduce((sum, word) => sum + word.length, 0);
      const shown = state.map((word) => word.map((one) => ({ face: faces[one], marked: last && one === last[3] })));
      const said = `${saidOfMerge(last, faces, known)} ${total} tokens.`;
      place.replaceChildren(pieces(shown), element("p", { className: "said" }, [said]));
    };
    const most = now.merges.length;
    const range = { min: 0, max: most, step: 1, value: Math.min(begin, most) };
    holder.replaceChildren(slider("merges", range, draw, (n) => `${n} / ${most}`));
    draw(range.value);
  };
  show({ words, merges }, 1);
  if (rules) {
    const ranks = ranksOf(rules);
    const typed = element("input", { type: "text", maxLength: 200, autocomplete: "off", spellcheck: false });
    typed.addEventListener("input", () => {
      const other = wordsOf(typed.value, rules);
      if (typed.value) show({ words: other, merges: mergesOf(other, ranks) }, Infinity);
      else show({ words, merges }, 1);
    });
    root.append(element("label", { className: "choice typed" }, [element("span", {}, ["another text"]), typed]));
  }
  root.append(holder, place);
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
      element("p", { className: "said" }, [`${left} and ${right} are merged. Tokens learned so far:`]),
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
      ["parameters of the table", say(table)],
      ["parameters of the layers", say(blocks)],
      ["share of parameters in the table", percent(table / (table + blocks))],
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
