// "Write": a text that a person and the model write together. The model's tokens are coloured by their probability, and
// another token can be chosen in place of each.

import * as api from "./api.js";
import { byId, element, percent } from "./dom.js";
import { SettingError } from "./settings.js";
import { keep, kept } from "./storage.js";
import { bars, face, step } from "./tokens.js";

const ALTERNATIVES = 8;
const MOST_STATES = 200;
const SHORTEST = 64; // characters to which a text that exceeds the context is shortened, at most
const UNCHOOSABLE = /^bytes:|^<\|[^|]*\|>$|^<\/?s>$/; // parts of characters, and special tokens

export class Write {
  // The text in parts: what the person wrote ({text}), and tokens ({text, logprob, top}).
  parts = [];
  // Earlier states of the text.
  states = [];
  running = null;

  constructor(settings, model) {
    Object.assign(this, { settings, model });
    this.box = byId("text");
    this.box.addEventListener("input", () => this.typed());
    byId("continue").addEventListener("click", () => this.proceed());
    byId("write-stop").addEventListener("click", () => this.stop());
    byId("undo").addEventListener("click", () => this.undo());
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("keyup", () => this.pointed());
    this.box.addEventListener("click", (event) => this.pointed(this.under(event)));
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.stop());
    const text = kept("text");
    if (typeof text === "string") this.parts = own(text);
    this.draw();
    this.pointed();
  }

  get text() {
    return this.parts.map((part) => part.text).join("");
  }

  say(text) {
    byId("write-status").textContent = text;
  }

  key(event) {
    const command = event.ctrlKey || event.metaKey;
    const act = command && { Enter: () => this.proceed(), z: () => this.undo() }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  stop() {
    this.running?.abort();
  }

  clear() {
    this.stop();
    this.parts = [];
    this.states = [];
    this.changed();
  }

  undo() {
    if (this.running || !this.states.length) return;
    this.parts = this.states.pop();
    this.typing = false;
    this.say("");
    this.changed();
    this.box.focus();
  }

  remember() {
    this.states = [...this.states, this.parts].slice(-MOST_STATES);
  }

  // After the person has changed the text: tokens before the change keep their probabilities.
  typed() {
    const before = this.text;
    const now = this.box.value;
    if (!this.typing) this.remember();
    this.typing = true;
    let same = 0;
    while (same < before.length && before[same] === now[same]) same += 1;
    const left = [];
    let end = 0;
    for (const part of this.parts) {
      if (end + part.text.length > same) break;
      left.push(part);
      end += part.text.length;
    }
    const written = left.at(-1)?.logprob === undefined ? (left.pop()?.text ?? "") : "";
    this.parts = [...left, ...own(written + now.slice(end))];
    this.changed();
  }

  // Continue the text. A word that the person left unfinished is completed (token healing).
  proceed(heal = this.parts.at(-1)?.logprob === undefined) {
    if (this.running) return;
    try {
      this.task = this.run(this.settings.sampling(), heal);
    } catch (error) {
      this.refused(error);
    }
  }

  async run(fields, heal) {
    this.remember();
    this.typing = false;
    const before = this.parts;
    const controller = new AbortController();
    this.work(controller);
    const length = Number(byId("write-length").value);
    const request = { ...fields, model: this.model(), max_tokens: length, token_healing: heal, logprobs: ALTERNATIVES };
    const found = { text: "", tokens: [] };
    try {
      for await (const chunk of continuation(this.text, request, controller.signal)) {
        const [choice] = chunk.choices;
        found.text += choice?.text ?? "";
        found.tokens.push(...tokens(choice?.logprobs));
        this.parts = [...before, ...pieces(found)];
        this.later();
      }
    } catch (error) {
      if (!controller.signal.aborted) this.refused(error);
    }
    if (!found.text && this.states.at(-1) === before) this.states.pop();
    this.work(null);
    this.changed();
    this.box.setSelectionRange(this.box.value.length, this.box.value.length);
    if (!matchMedia("(hover: none)").matches) this.box.focus();
  }

  work(controller) {
    this.running = controller;
    this.box.readOnly = Boolean(controller);
    byId("continue").hidden = Boolean(controller);
    byId("write-stop").hidden = !controller;
    if (controller) this.say("");
  }

  refused(error) {
    this.say(error.message);
    if (!(error instanceof SettingError)) return;
    this.settings.show(error.field, error.message);
    this.settings.open(error.field);
  }

  // Put another token in place of one, drop the text after it, and continue from there.
  async choose(place, token) {
    this.stop();
    await this.task;
    const before = this.parts;
    this.parts = [...before.slice(0, place), { ...token, top: before[place].top }];
    this.proceed(false);
    if (this.running) this.states.splice(-1, 1, before); // one step back is before the choice
  }

  // The part under the pointer: the box with the text lies over what is drawn.
  under({ clientX, clientY }) {
    const node = document.elementsFromPoint(clientX, clientY).find((one) => one.parentElement?.id === "ink");
    return node ? [...node.parentElement.children].indexOf(node) : this.atCursor();
  }

  atCursor() {
    let end = 0;
    return this.parts.findIndex((part) => (end += part.text.length) > this.box.selectionStart);
  }

  // Show the alternatives of a token.
  pointed(place = this.atCursor()) {
    const part = this.parts[place];
    this.marked?.classList.remove("marked");
    const body = byId("choices-body");
    if (!part?.top) {
      body.replaceChildren(element("p", { className: "faint" }, [
        this.parts.some((one) => one.top) ? "Choose a coloured token to see them." : "The model has written nothing yet.",
      ]));
      return;
    }
    this.marked = byId("ink").children[place];
    this.marked?.classList.add("marked");
    const share = part.logprob === null ? "" : percent(Math.exp(part.logprob));
    body.replaceChildren(
      element("p", { className: "chosen" }, [element("code", {}, [face(part)]), ` ${share}`]),
      bars(part.top, (one) => one.text === part.text, "Continue with another token", (one) =>
        UNCHOOSABLE.test(one.text) || one.text === part.text ? null : () => this.choose(place, one)),
    );
  }

  changed() {
    keep("text", this.text || null);
    this.draw();
    this.pointed();
  }

  later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
      const paper = byId("paper");
      paper.scrollTop = paper.scrollHeight;
    });
  }

  draw() {
    const drawn = this.parts.map((part) => {
      const node = element("span", {}, [part.text]);
      if (part.logprob !== undefined && part.logprob !== null) node.dataset.step = String(step(Math.exp(part.logprob)));
      return node;
    });
    byId("ink").replaceChildren(...drawn, "\u200b"); // which gives a last, empty line its height
    const { text } = this;
    if (this.box.value !== text) this.box.value = text;
    byId("undo").disabled = !this.states.length;
  }
}

function own(text) {
  return text ? [{ text }] : [];
}

// The chunks of a continuation; of a text that exceeds the context, the model reads the end.
async function* continuation(text, request, signal) {
  for (let prompt = text; ; prompt = prompt.slice(prompt.length / 2).toWellFormed()) {
    try {
      yield* api.complete({ ...request, prompt }, signal);
      return;
    } catch (error) {
      if (error.code !== "context_length_exceeded" || prompt.length < SHORTEST) throw error;
    }
  }
}

// The tokens of a chunk: their places in the continuation, and their probabilities.
function tokens(logprobs) {
  return (logprobs?.text_offset ?? []).map((offset, at) => ({
    offset,
    logprob: logprobs.token_logprobs[at],
    top: Object.entries(logprobs.top_logprobs[at]).map(([text, logprob]) => ({ text, logprob })),
  }));
}

// A continuation in parts, one for each token; tokens of one character are one part.
function pieces({ text, tokens: all }) {
  // Line ends as a text box has them.
  const characters = [...text].map((one, at, them) => (one !== "\r" ? one : them[at + 1] === "\n" ? "" : "\n"));
  if (!all.length) return text ? [{ text: characters.join(""), logprob: null }] : [];
  return all
    .map(({ offset, logprob, top }, at) => ({ text: characters.slice(offset, all[at + 1]?.offset).join(""), logprob, top }))
    .filter((part) => part.text);
}
