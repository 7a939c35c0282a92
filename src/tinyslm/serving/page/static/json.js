// Where JSON is invalid. Browsers report this in different words, and some do not.

const SCALAR = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SPACE = /[ \t\r\n]*/y;

// The place of the first error, and what was expected there; null for valid JSON.
export function mistake(text) {
  const open = []; // the closing marks that are still due
  let at = 0;
  let state = "value";
  for (;;) {
    at += length(SPACE, text, at);
    if (state === "end") {
      if (!open.length) return at < text.length ? wrong("the end") : null;
      const closing = open.at(-1);
      if (text[at] === ",") state = closing === "}" ? "name" : "value";
      else if (text[at] === closing) open.pop();
      else return wrong(`"," or "${closing}"`);
      at += 1;
    } else if (state === "name" || state === "first name") {
      if (state === "first name" && text[at] === "}") {
        state = "end"; // which closes it
        continue;
      }
      const name = length(STRING, text, at);
      if (!name) return wrong("a name in double quotes");
      at += name;
      at += length(SPACE, text, at);
      if (text[at] !== ":") return wrong('":"');
      at += 1;
      state = "value";
    } else if (text[at] === "{" || text[at] === "[") {
      open.push(text[at] === "{" ? "}" : "]");
      state = text[at] === "{" ? "first name" : "first value";
      at += 1;
    } else if (state === "first value" && text[at] === "]") {
      state = "end";
    } else {
      const value = length(STRING, text, at) || length(SCALAR, text, at);
      if (!value) return wrong("a value");
      at += value;
      state = "end";
    }
  }

  function wrong(expected) {
    const lines = text.slice(0, at).split("\n");
    const found = at < text.length ? `found ${JSON.stringify([...text.slice(at)][0])}` : "found the end";
    const where = `line ${lines.length}, column ${lines.at(-1).length + 1}`;
    return { at, message: `expected ${expected} in ${where}, ${found}` };
  }
}

function length(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0].length ?? 0;
}
