// The model, run by llama.cpp as WebAssembly (wllama) in a worker of this page.

import { Conversations } from "./conversations.js";
import { Wllama } from "./runtime/wllama.js";

const MOST_THREADS = 4;
const BATCH = 128; // prompt tokens between two chances to stop
const CANDIDATES = 64; // likeliest tokens that are asked for, so that the drawn one is mostly among them
const LONGEST_LOOK = 512; // tokens

// A text that does not fit, or a failure of the runtime.
export class RuntimeFailure extends Error {
  constructor(message, code = null) {
    super(message);
    this.code = code;
  }
}

export class Runtime {
  // The tokens whose keys and values the runtime holds.
  held = [];
  pieces = new Map();
  turn = Promise.resolve();

  constructor(about, wllama) {
    Object.assign(this, { about, wllama });
    this.conversations = new Conversations(about, (text) => this.encode(text));
  }

  // Start the runtime with the model's file, a blob. `about` is the content of model.json.
  static async start(about, blob) {
    const wllama = new Wllama(
      { "single-thread/wllama.wasm": "page/runtime/single.wasm", "multi-thread/wllama.wasm": "page/runtime/threads.wasm" },
      { suppressNativeLog: true, logger: { debug() {}, log() {}, warn() {}, error: console.error } },
    );
    await wllama.loadModel([blob], { n_ctx: about.context, n_batch: BATCH, n_threads: threads() });
    return new Runtime(about, wllama);
  }

  get threads() {
    return this.wllama.getNumThreads();
  }

  // The ids of a text without special tokens, as tinyslm encodes it.
  async encode(text) {
    return text ? this.wllama.tokenize(text.toWellFormed(), false) : [];
  }

  // The ids of a text to continue.
  async prompt(text) {
    const ids = [...this.about.start, ...(await this.encode(text))];
    return ids.length ? ids : [this.about.eos];
  }

  // The ids of a conversation, with the beginning of an answer.
  conversation(messages, answered = false) {
    return this.conversations.encode(messages, !answered);
  }

  // Continue `ids`: yields each token as { id, bytes, logprob, top } until the generation ends; returns why: "stop" or
  // "length". `top` is the number of alternatives to give with each token (0: no probabilities). With a `matcher` (of
  // grammar.js), each token is the likeliest that it allows, whatever `sampling` says.
  async *generate(ids, { sampling, most, signal, top = 0, matcher = null }) {
    const release = await this.alone();
    try {
      if (ids.length >= this.about.context) throw tooLong(ids.length, this.about.context);
      const stops = new Set(this.about.stop);
      await this.wllama.samplingInit(sampler(sampling), ids);
      await this.read(ids, signal);
      let [drawn, scored] = await this.drawn(top, matcher);
      for (let count = 1; ; count += 1) {
        if (stops.has(drawn.token)) return "stop";
        yield await this.described(drawn, scored, top);
        if (signal?.aborted) throw new DOMException("Stopped.", "AbortError");
        if (count >= most || this.held.length + 1 >= this.about.context) return "length";
        this.held.push(drawn.token);
        // All of a token's work is sent at once; the worker does it in order.
        const accepted = this.wllama.samplingAccept([drawn.token]);
        const decoded = this.wllama.decode([drawn.token], {});
        [, , [drawn, scored]] = await Promise.all([accepted, decoded, this.drawn(top, matcher)]);
      }
    } catch (error) {
      if (error.name !== "AbortError") this.held = []; // what the runtime holds is not known
      throw error;
    } finally {
      release();
    }
  }

  // The probabilities of the tokens of a text, of which the end is read: [{ token, logprob, rank, top }], and the
  // likeliest next tokens.
  async score(ids, top) {
    const release = await this.alone();
    try {
      const read = ids.slice(-Math.min(LONGEST_LOOK, this.about.context - 1));
      const tokens = [{ token: await this.shown(read[0]), logprob: null, rank: null, top: [] }];
      await this.forget();
      let all = [];
      for (const [place, id] of read.entries()) {
        if (place) {
          const rank = all.findIndex((one) => one.token === id);
          tokens.push({ token: await this.shown(id), logprob: log(all[rank].p), rank: rank + 1, top: await this.likeliest(all, top) });
        }
        await this.wllama.decode([id], {});
        this.held.push(id);
        all = await this.wllama.getLogits(-1);
      }
      return { tokens, next: await this.likeliest(all, top), omitted: ids.length - read.length };
    } finally {
      release();
    }
  }

  // A token as the page draws it: { id, text, kind }.
  async shown(id) {
    const bytes = await this.bytes(id);
    if (this.about.special.includes(id) || !bytes.length) return { id, text: decoded(bytes) || `token ${id}`, kind: "special" };
    const text = whole(bytes);
    if (text !== null) return { id, text, kind: "text" };
    return { id, text: [...bytes].map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" "), kind: "bytes" };
  }

  async bytes(id) {
    if (!this.pieces.has(id)) this.pieces.set(id, new Uint8Array(await this.wllama.detokenize([id])));
    return this.pieces.get(id);
  }

  // Wait until nothing else uses the model; returns what ends the use.
  async alone() {
    const before = this.turn;
    let release;
    this.turn = new Promise((resolve) => (release = resolve));
    await before;
    return release;
  }

  // Read a prompt; what it has in common with the text before is not read again.
  async read(ids, signal) {
    let common = 0;
    while (common < Math.min(this.held.length, ids.length - 1) && this.held[common] === ids[common]) common += 1;
    if (!common) await this.forget();
    else if (common < this.held.length) await this.wllama.kvRemove(common, -1);
    this.held.length = common;
    for (let at = common; at < ids.length; at += BATCH) {
      if (signal?.aborted) throw new DOMException("Stopped.", "AbortError");
      const part = ids.slice(at, at + BATCH);
      await this.wllama.decode(part, { skipLogits: at + BATCH < ids.length });
      this.held.push(...part);
    }
  }

  async forget() {
    await this.wllama.kvClear();
    this.held = [];
  }

  async drawn(top, matcher) {
    return Promise.all([matcher ? this.allowed(matcher) : this.wllama.samplingSample(), top ? this.wllama.getLogits(CANDIDATES) : null]);
  }

  // The likeliest token that a matcher allows, which is told of it.
  async allowed(matcher) {
    for (const count of [CANDIDATES, -1]) {
      for (const { token } of await this.wllama.getLogits(count)) {
        const stops = this.about.stop.includes(token);
        const piece = stops || this.about.special.includes(token) ? [] : await this.bytes(token);
        if (stops ? !matcher.accepts : !matcher.allows(piece)) continue;
        if (!stops) matcher.take(piece);
        return { token, piece };
      }
    }
    throw new RuntimeFailure("The model has no token that may come next.");
  }

  async described({ token, piece }, scored, top) {
    const bytes = new Uint8Array(piece);
    if (!scored) return { id: token, bytes };
    const found = scored.find((one) => one.token === token) ?? (await this.wllama.getLogits(-1)).find((one) => one.token === token);
    return { id: token, bytes, logprob: log(found.p), top: await this.likeliest(scored, top) };
  }

  likeliest(all, count) {
    return Promise.all(all.slice(0, count).map(async ({ token, p }) => ({ ...(await this.shown(token)), logprob: log(p) })));
  }
}

// Half of the processors, as the other half is mostly the same ones again.
function threads() {
  const asked = Number(new URLSearchParams(location.search).get("threads"));
  return asked || Math.max(1, Math.min(MOST_THREADS, Math.floor((navigator.hardwareConcurrency || 1) / 2)));
}

// The runtime's names of the settings of a request.
function sampler({ temperature, top_k, top_p, min_p, repetition_penalty, frequency_penalty, presence_penalty }) {
  const greedy = temperature === 0 || top_p === 0;
  return {
    temp: greedy ? 0 : temperature,
    top_k: greedy ? 1 : top_k,
    top_p: greedy ? 1 : top_p,
    min_p: greedy ? 0 : min_p,
    penalty_last_n: -1,
    penalty_repeat: repetition_penalty,
    penalty_freq: frequency_penalty,
    penalty_present: presence_penalty,
  };
}

function tooLong(length, context) {
  return new RuntimeFailure(`The text has ${length} tokens, and the model reads at most ${context - 1}.`, "context_length_exceeded");
}

const LEAST = -9999;

function log(p) {
  return p > 0 ? Math.max(LEAST, Math.log(p)) : LEAST;
}

function decoded(bytes) {
  return new TextDecoder().decode(bytes);
}

// The characters of bytes; null if they are not whole ones.
function whole(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}
