// What the views ask for, answered by the model in this page instead of a server. Exports and formats are those of the
// server's page (`serving/page/static/api.js`), whose views these are.

import { loading } from "./loading.js";

const ALTERNATIVES = 8;

export class ServerError extends Error {
  constructor(message, { status = 0, param = null, code = null } = {}) {
    super(message);
    Object.assign(this, { status, param, code });
  }
}

// There are no keys, as there is no server.
export function storedKey() {
  return "";
}

export function storeKey() {}

export async function models() {
  const { about } = await model();
  return [{ id: about.name, sampling: about.sampling, conversations: about.conversations }];
}

export async function card() {
  const { about, threads } = await model();
  const here = { title: "In this page", rows: [["file", about.file], ["weights", about.weights], ["context", `${about.context} tokens`], ["threads", `${threads}`]] };
  return { sections: [...about.card, here] };
}

export async function* chat({ messages, ...fields }, signal) {
  const runtime = await model();
  const ids = await failing(runtime.conversation(messages.map(({ role, content }) => ({ role, content }))));
  const decoder = new TextDecoder();
  for await (const { finish, tokens, count } of steps(runtime, ids, fields, signal, 0)) {
    const content = finish ? decoder.decode() : decoder.decode(tokens[0].bytes, { stream: true });
    yield { choices: [{ delta: { content }, finish_reason: finish }], usage: finish ? { completion_tokens: count } : null };
  }
}

export async function* complete({ prompt, ...fields }, signal) {
  const runtime = await model();
  const ids = await failing(runtime.prompt(prompt));
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let length = 0;
  for await (const { finish, tokens, count } of steps(runtime, ids, fields, signal, fields.logprobs || ALTERNATIVES)) {
    const text = finish ? decoder.decode() : decoder.decode(tokens[0].bytes, { stream: true });
    const logprobs = {
      text_offset: tokens.map(() => length),
      token_logprobs: tokens.map((token) => token.logprob),
      top_logprobs: tokens.map(({ top }) => Object.fromEntries(top.map((one) => [one.kind === "bytes" ? `bytes:${one.text}` : one.text, one.logprob]))),
    };
    length += [...text].length;
    yield { choices: [{ text, logprobs, finish_reason: finish }], usage: finish ? { completion_tokens: count } : null };
  }
}

export async function look({ text, messages, top = ALTERNATIVES }) {
  const runtime = await model();
  const answered = messages?.at(-1)?.role === "assistant";
  const ids = await failing(messages ? runtime.conversation(messages, answered) : runtime.prompt(text));
  const { tokens, next, omitted } = await failing(runtime.score(ids, top));
  const rows = tokens.map(({ token, ...scores }) => ({ ...token, ...scores }));
  return { model: runtime.about.name, left_out: omitted, layers: 0, heads: 0, tokens: rows, loss_by_kind: [], next };
}

export async function lookAttention() {
  throw new ServerError("The runtime of this page does not show attention.");
}

// The tokens of a continuation, then why it ended. Shows the speed.
async function* steps(runtime, ids, fields, signal, top) {
  const { max_tokens: most, ...given } = { ...runtime.about.sampling, ...fields };
  const pieces = runtime.generate(ids, { sampling: given, most, signal, top });
  let count = 0;
  let began = 0;
  for (;;) {
    const { done, value } = await failing(pieces.next());
    if (done) {
      yield { finish: value, tokens: [], count };
      return;
    }
    count += 1;
    began ||= performance.now();
    if (count > 1) loading.speed((1000 * (count - 1)) / (performance.now() - began));
    yield { finish: null, tokens: [value], count };
  }
}

function model() {
  return failing(loading.model);
}

async function failing(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ServerError) throw error;
    throw new ServerError(error.message, { code: error.code ?? null });
  }
}
