// Conversations as ids: what the chat template writes may be special tokens, what a message says never is.
//
// As in tinyslm's `tokenizer/special.py`: private-use characters stand for names of special tokens in messages while
// the template is rendered. After that they become ordinary text again, and the remaining names become ids.

import { Template } from "./runtime/jinja.js";

const FIRST_HIDDEN = 0xf0000;
const PLAIN_WORD = /^\p{ID_Start}\p{ID_Continue}*$/u;

export class Conversations {
  // template: Jinja, or null. names: pairs of a special token's name and id. values: what else the template is given.
  // encode: gives the ids of a text without special tokens.
  constructor({ template, names, values }, encode) {
    Object.assign(this, { source: template, values, encodeText: encode });
    this.ids = new Map(names);
    const longestFirst = [...this.ids.keys()].sort((a, b) => b.length - a.length);
    this.names = longestFirst.map(escaped).join("|") || "(?!)";
    this.beginnings = longestFirst.flatMap((name) => Array.from(name, (_, at) => name.slice(0, at))).filter(Boolean);
    this.beginnings.sort((a, b) => b.length - a.length);
  }

  // The ids of messages ({ role, content }); with `prompt`, the beginning of an answer follows.
  async encode(messages, prompt) {
    if (this.source === null) throw new Error("This model has no chat template: it continues texts.");
    const hidden = new Hidden(this.source + messages.map(({ content }) => content).join(""));
    const shown = messages.map((message) =>
      Object.fromEntries(Object.entries(message).map(([key, value]) => [key, this.hide(value, hidden, key)])),
    );
    return this.cut(this.render(shown, prompt), hidden);
  }

  render(messages, prompt) {
    this.template ??= new Template(this.source);
    return this.template.render({
      ...this.values,
      messages,
      tools: null,
      documents: null,
      add_generation_prompt: prompt,
    });
  }

  // A text of a message without names of special tokens; its end may be the beginning of one, too.
  hide(text, hidden, key) {
    if (key === "role" && PLAIN_WORD.test(text)) return text;
    const replaced = text.replaceAll(new RegExp(this.names, "gu"), (name) => hidden.stand(name));
    const stripped = replaced.trimEnd();
    const beginning = this.beginnings.find((one) => stripped.endsWith(one));
    if (!beginning) return replaced;
    return stripped.slice(0, -beginning.length) + hidden.stand(beginning) + replaced.slice(stripped.length);
  }

  async cut(text, hidden) {
    const ids = [];
    let plain = "";
    let end = 0;
    for (const { 0: name, index } of text.matchAll(new RegExp([this.names, ...hidden.texts.keys()].join("|"), "gu"))) {
      plain += text.slice(end, index) + (hidden.texts.get(name) ?? "");
      end = index + name.length;
      if (hidden.texts.has(name)) continue;
      ids.push(...(await this.encodeText(plain)), this.ids.get(name));
      plain = "";
    }
    ids.push(...(await this.encodeText(plain + text.slice(end))));
    return ids;
  }
}

// Characters that stand for texts; `taken` is text that must not have them.
class Hidden {
  texts = new Map();
  next = FIRST_HIDDEN;

  constructor(taken) {
    this.taken = taken;
  }

  stand(text) {
    for (const [character, stands] of this.texts) if (stands === text) return character;
    while (this.taken.includes(String.fromCodePoint(this.next))) this.next += 1;
    const character = String.fromCodePoint(this.next);
    this.next += 1;
    this.texts.set(character, text);
    return character;
  }
}

function escaped(text) {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}
