// What a text may look like so far, by a grammar of llama.cpp (GBNF) as tinyslm writes them (`inference/gbnf.py`). The
// runtime's own implementation does not follow the text (wllama 2.3.7), so tokens are chosen here.
//
// A stack is what is still to come: { node, rest }, or null at the end. All stacks that a text allows are kept at once;
// equal ones are one object.

export class Grammar {
  // text: the rules, of which the first is the start. replaced: the bodies of rules that take the place of others.
  constructor(text, replaced = {}) {
    this.rules = new Map();
    for (const [, name, body] of text.matchAll(/^([\w-]+) ::= (.*)$/gm)) this.rules.set(name, new Reader(replaced[name] ?? body).whole());
    this.stacks = new Map();
    this.repeated = new Map();
    this.first = this.open([this.stack({ kind: "rule", name: this.rules.keys().next().value }, null)]);
  }

  stack(node, rest) {
    const rests = known(this.stacks, node, () => new Map());
    return known(rests, rest, () => ({ node, rest }));
  }

  // A node that comes at least `least` and at most `most` times.
  repeat(node, least, most) {
    const counts = known(this.repeated, node, () => new Map());
    return known(counts, `${least} ${most}`, () => ({ kind: "repeat", node, least, most }));
  }

  // The stacks that begin with a character, and null if the text may end, from stacks that begin with anything.
  open(stacks) {
    const found = new Set();
    const seen = new Set();
    const waiting = [...stacks];
    while (waiting.length) {
      const stack = waiting.pop();
      if (seen.has(stack)) continue;
      seen.add(stack);
      if (stack === null || stack.node.kind === "characters") found.add(stack);
      else waiting.push(...this.expanded(stack));
    }
    return [...found];
  }

  expanded({ node, rest }) {
    switch (node.kind) {
      case "rule":
        return [this.stack(this.rules.get(node.name), rest)];
      case "any":
        return node.nodes.map((one) => this.stack(one, rest));
      case "all":
        return [node.nodes.reduceRight((after, one) => this.stack(one, after), rest)];
      case "repeat": {
        const { node: one, least, most } = node;
        const again = most ? this.stack(one, this.stack(this.repeat(one, Math.max(0, least - 1), most - 1), rest)) : rest;
        return least ? [again] : [rest, again];
      }
    }
  }

  // The stacks after a character; none if it must not come.
  after(stacks, character) {
    const code = character.codePointAt(0);
    return this.open(stacks.filter((stack) => stack && includes(stack.node, code)).map((stack) => stack.rest));
  }
}

// Follows a text of bytes, which may end within a character.
export class Matcher {
  rest = []; // bytes of a character that is not whole

  constructor(grammar) {
    this.grammar = grammar;
    this.stacks = grammar.first;
  }

  // Whether the text may end here.
  get accepts() {
    return this.stacks.includes(null) && !this.rest.length;
  }

  // What follows the text with these bytes; null if they must not come.
  next(bytes) {
    const all = Uint8Array.from([...this.rest, ...bytes]);
    const end = wholeCharacters(all);
    let stacks = this.stacks;
    try {
      for (const character of new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(all.subarray(0, end))) {
        stacks = this.grammar.after(stacks, character);
        if (!stacks.length) return null;
      }
    } catch {
      return null; // no UTF-8
    }
    const rest = [...all.subarray(end)];
    return rest.length && !this.grammar.after(stacks, "\u{e000}").length ? null : { stacks, rest };
  }

  // Whether the text may go on with a token of these bytes.
  allows(bytes) {
    return bytes.length > 0 && this.next(bytes) !== null;
  }

  take(bytes) {
    Object.assign(this, this.next(bytes));
  }
}

// How many of the bytes are whole characters, if they are UTF-8: all but the beginning of one at the end.
function wholeCharacters(bytes) {
  let start = bytes.length;
  while (start > 0 && bytes.length - start < 3 && (bytes[start - 1] & 0xc0) === 0x80) start -= 1;
  const lead = bytes[start - 1] ?? 0;
  const length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
  return start > 0 && bytes.length - (start - 1) < length ? start - 1 : bytes.length;
}

// What a map holds at a key; made if there is nothing.
function known(map, key, make) {
  let found = map.get(key);
  if (found === undefined) map.set(key, (found = make()));
  return found;
}

function includes({ ranges, not }, code) {
  return ranges.some(([from, to]) => from <= code && code <= to) !== not;
}

// Reads the body of a rule.
class Reader {
  at = 0;

  constructor(text) {
    this.text = text;
  }

  whole() {
    const read = this.alternatives();
    if (this.at < this.text.length) throw new Error(`The grammar cannot be read from here: ${this.text.slice(this.at)}`);
    return read;
  }

  take(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at = pattern.lastIndex;
    return found;
  }

  alternatives() {
    const nodes = [this.sequence()];
    while (this.take(/ *\| */y)) nodes.push(this.sequence());
    return nodes.length > 1 ? { kind: "any", nodes } : nodes[0];
  }

  sequence() {
    const nodes = [];
    for (let item = this.item(); item; item = this.item()) nodes.push(this.counted(item));
    return { kind: "all", nodes };
  }

  item() {
    this.take(/ +/y);
    let found;
    if ((found = this.take(/"((?:[^"\\]|\\.)*)"/y))) return { kind: "all", nodes: characters(found[1]).map((code) => one([[code, code]], false)) };
    if ((found = this.take(/\[(\^?)((?:[^\]\\]|\\.)*)\]/y))) return one(ranges(found[2]), Boolean(found[1]));
    if ((found = this.take(/[A-Za-z][\w-]*/y))) return { kind: "rule", name: found[0] };
    if (!this.take(/\(/y)) return null;
    const inner = this.alternatives();
    if (!this.take(/ *\)/y)) throw new Error(`The grammar lacks a bracket: ${this.text}`);
    return inner;
  }

  counted(node) {
    const found = this.take(/([?*+])|\{(\d+)(?:(,)(\d*))?\}/y);
    if (!found) return node;
    const [, sign, low, comma, high] = found;
    const least = sign ? Number(sign === "+") : Number(low);
    const most = sign ? (sign === "?" ? 1 : Infinity) : comma ? (high ? Number(high) : Infinity) : least;
    return { kind: "repeat", node, least, most };
  }
}

function one(ranges, not) {
  return { kind: "characters", ranges, not };
}

const ESCAPES = { n: "\n", r: "\r", t: "\t" };

function characters(text) {
  return [...text.matchAll(/\\(.)|([^\\])/gsu)].map(([, escaped, plain]) => (plain ?? ESCAPES[escaped] ?? escaped).codePointAt(0));
}

function ranges(text) {
  return [...text.matchAll(/(\\.|[^\\])(?:-(\\.|[^\\]))?/gsu)].map(([, from, to]) => [characters(from)[0], characters(to ?? from)[0]]);
}
