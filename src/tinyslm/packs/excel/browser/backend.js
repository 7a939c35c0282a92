// The model and the engine of this page, both in the visitor's browser.

import { Grammar, Matcher } from "../grammar.js";
import { loading } from "../loading.js";
import { question } from "./question.js";

const ANSWER_TOKENS = 96;
const PATIENCE = 10_000; // milliseconds that a formula may take

export async function models() {
  return [(await loading.model).about.name];
}

// What the model writes: yields { text, finish }. Every text is the beginning of a formula for this sheet, or CANNOT.
export async function* write(sheet, request, _model, signal) {
  const runtime = await loading.model;
  const ids = await runtime.conversation([{ role: "user", content: question(sheet, request) }]);
  const decoder = new TextDecoder();
  let began = 0;
  const tokens = runtime.generate(ids, { sampling: { ...runtime.about.sampling, temperature: 0 }, most: ANSWER_TOKENS, signal, matcher: await matcher(sheet) });
  for (let count = 1; ; count += 1) {
    const { done, value } = await tokens.next();
    if (done) {
      yield { text: decoder.decode(), finish: value };
      return;
    }
    began ||= performance.now();
    if (count > 1) loading.speed((1000 * (count - 1)) / (performance.now() - began));
    yield { text: decoder.decode(value.bytes, { stream: true }), finish: null };
  }
}

let rules = null;

// What a formula about a sheet may look like.

export async function matcher({ headers, rows }) {
  rules ??= fetch("page/excel/formulas.gbnf").then((response) => response.text());
  const anyOf = (texts) => texts.map((text) => `"${text}"`).join(" | ");
  const letters = headers.map((_, column) => String.fromCharCode(65 + column));
  const numbers = Array.from({ length: rows.length + 1 }, (_, row) => row + 1);
  return new Matcher(new Grammar(await rules, { LETTER: anyOf(letters), ROW: anyOf(numbers) }));
}

// The worker that computes: `ready` when it has its program.
class Engine {
  constructor() {
    this.waiting = new Map();
    this.worker = new Worker("page/excel/engine.js", { type: "module" });
    this.worker.addEventListener("message", ({ data }) => this.waiting.get(data.number)?.(data));
    this.worker.addEventListener("error", () => this.waiting.get(0)({ error: "the program that computes does not start" }));
    this.ready = new Promise((resolve) => this.waiting.set(0, resolve));
  }

  answer(message) {
    return new Promise((resolve) => {
      this.waiting.set(message.number, resolve);
      this.worker.postMessage(message);
      setTimeout(resolve, PATIENCE, null);
    }).finally(() => this.waiting.delete(message.number));
  }
}

let engine = loading.controlled.then(() => new Engine());
let number = 0;

// The rows of texts that a formula gives, { grid }, or { error }: why it is not computed.
export async function compute(sheet, formula, fill) {
  const used = await engine;
  const { error } = await used.ready;
  if (error) return { error: `not computed: ${error}` };
  const found = await used.answer({ number: ++number, sheet, formula, fill });
  if (found) return found;
  used.worker.terminate();
  if ((await engine) === used) engine = Promise.resolve(new Engine());
  return { error: "not computed: it takes too long" };
}
