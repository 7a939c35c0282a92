// The conversation: its messages, their elements, and the request under way.

import * as api from "./api.js";
import * as chats from "./chats.js";
import { byId, element, readable } from "./dom.js";
import { edit } from "./editing.js";
import { render } from "./markdown.js";
import { SettingError } from "./settings.js";
import { keep, kept } from "./storage.js";

const NAMES = { user: "You", assistant: "Model", tool: "Result", system: "System" };
const EDITABLE = ["user", "assistant"];
const NEAR = 80; // pixels from the end within which the conversation follows what is written

export class Chat {
  // Messages in OpenAI's format, without the system message; `settings` and the page's choice of a model go with each request.
  messages = [];
  id = chats.newId();
  running = null;

  constructor(settings, model, look) {
    Object.assign(this, { settings, model, look });
    this.log = byId("log");
    this.box = byId("message");
    this.welcome = byId("welcome");
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.box.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.send();
      }
    });
    this.box.addEventListener("input", () => this.grow());
    byId("stop").addEventListener("click", () => this.stop());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) this.stop();
    });
    byId("new").addEventListener("click", () => this.open({ messages: [] }));
    byId("markdown").addEventListener("change", () => this.redraw());
    byId("system").addEventListener("change", () => this.keep());
    window.addEventListener("pagehide", () => this.keep());
  }

  // Continue the conversation of this tab, or else the latest that this browser kept; returns the name of its model.
  restore() {
    const id = kept("current", "sessionStorage");
    const saved = id ? chats.find(id) : chats.all()[0];
    if (saved) this.show(saved);
    return saved?.model ?? "";
  }

  keep() {
    const { id, messages } = this;
    const { system } = this.settings;
    if (this.state() === this.stored) return; // it keeps its place in the list
    this.stored = this.state();
    if (messages.length || system) chats.store({ id, model: this.model(), system, messages });
    else chats.remove(id);
  }

  state() {
    return JSON.stringify([this.settings.system, this.messages]);
  }

  show({ id, system, messages }) {
    if (system !== undefined) this.settings.system = system;
    Object.assign(this, { id: id ?? chats.newId(), messages });
    keep("current", this.id, "sessionStorage");
    if (id) this.stored = this.state();
    this.redraw();
  }

  // The whole conversation as sent to the server.
  sent() {
    const { system } = this.settings;
    return system ? [{ role: "system", content: system }, ...this.messages] : [...this.messages];
  }

  // Open a conversation: one that is kept (with an id), or a new one; without a system message, that of before stays.
  open({ problem, ...conversation }) {
    if (problem) {
      byId("settings").close();
      this.say(problem);
      return;
    }
    this.stop();
    this.keep();
    this.show(conversation);
    this.say("");
    this.box.focus();
  }

  send() {
    const text = this.box.value.trim();
    if (!text || this.running) return;
    if (this.unanswered()) {
      this.say("First send the results of the calls above.");
      return;
    }
    const fields = this.fields();
    if (!fields) return;
    this.box.value = "";
    this.grow();
    this.add({ role: "user", content: text });
    this.answer(fields);
  }

  // The settings for a request; null, and a report, if one is invalid.
  fields() {
    try {
      return this.settings.request();
    } catch (error) {
      this.refused(error);
      return null;
    }
  }

  stop() {
    this.running?.abort();
  }

  say(text) {
    byId("notice").textContent = text;
  }

  // Report an error, at the setting that it is about if that is known.
  refused(error) {
    const field = error instanceof SettingError ? error.field : fieldOf(error);
    this.say(error.message);
    if (!field) return;
    this.settings.show(field, error.message);
    this.settings.open(field, error.at ?? null);
  }

  // Calls of the last message that have no results yet.
  unanswered() {
    const last = this.messages.findLastIndex((message) => message.role === "assistant");
    const calls = this.messages[last]?.tool_calls ?? [];
    return calls.length > 0 && this.messages.length === last + 1;
  }

  add(message) {
    this.welcome.remove();
    this.messages.push(message);
    const article = this.draw(message, this.messages.length - 1);
    this.log.append(article);
    this.toEnd();
    return article;
  }

  redraw() {
    const drawn = this.messages.map((message, place) => this.draw(message, place));
    this.log.replaceChildren(...(drawn.length ? drawn : [this.welcome]));
    this.toEnd();
    this.keep();
  }

  // Request an answer to the conversation, and show it as it arrives.
  async answer(fields) {
    const request = { ...fields, model: this.model(), messages: this.sent(), stream_options: { include_usage: true } };
    const message = { role: "assistant", content: "" };
    const article = this.add(message);
    const controller = new AbortController();
    let began = 0; // of the first token: what is waited for before it, such as a download, is no speed of writing
    let usage = null;
    let finish = "";
    this.work(controller, article);
    try {
      for await (const chunk of api.chat(request, controller.signal)) {
        const [choice] = chunk.choices;
        if (choice) take(message, choice.delta);
        if (message.content || message.tool_calls) began ||= performance.now();
        finish = choice?.finish_reason ?? finish;
        usage = chunk.usage ?? usage;
        this.later(message, article);
      }
    } catch (error) {
      if (controller.signal.aborted) finish = "stopped";
      else this.failed(error, message);
    }
    if (this.running !== controller) return;
    this.work(null, article);
    if (this.messages.at(-1) !== message) return;
    if (finish === "stopped" && message.tool_calls) delete message.tool_calls; // half a call is none
    this.finish(message, note(finish, usage, began && performance.now() - began, request.max_tokens));
  }

  work(controller, article) {
    this.running = controller;
    article.ariaBusy = String(Boolean(controller));
    article.classList.toggle("busy", Boolean(controller));
    byId("send").hidden = Boolean(controller);
    byId("stop").hidden = !controller;
    if (controller) this.say("");
  }

  failed(error, message) {
    this.refused(error);
    if (error.code === "context_length_exceeded") this.say(`${error.message} Shorten a message, or start a new chat.`);
    if (this.messages.at(-1) !== message || message.content) return;
    this.messages.pop();
    this.log.lastElementChild.remove();
    this.keep();
  }

  finish(message, remark) {
    const place = this.messages.length - 1;
    const article = this.draw(message, place, remark);
    this.log.lastElementChild.replaceWith(article);
    this.toEnd();
    this.keep();
    article.querySelector(".call textarea")?.focus();
  }

  // Draw a message that is being written: once per frame, however fast it arrives.
  later(message, article) {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (this.messages.at(-1) !== message || !article.isConnected) return;
      const follows = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < NEAR;
      article.querySelector(".body").replaceChildren(this.body(message));
      article.querySelector(".calls").replaceChildren(...(message.tool_calls ?? []).map((call) => drawCall(call)));
      if (follows) this.toEnd();
    });
  }

  draw(message, place, remark = "") {
    const name = NAMES[message.role];
    const article = element("article", { className: `message ${message.role}`, ariaLabel: name }, [
      element("h3", { className: "who" }, [message.role === "tool" ? `Result of ${this.nameOf(message)}` : name]),
      element("div", { className: "body" }, [this.body(message)]),
      element("div", { className: "calls" }, (message.tool_calls ?? []).map((call) => drawCall(call))),
    ]);
    const last = place === this.messages.length - 1;
    if (last && message.tool_calls) article.append(this.results(article, message.tool_calls));
    article.append(this.actions(message, place, remark));
    return article;
  }

  body(message) {
    const text = message.content ?? "";
    if (message.role === "assistant" && this.settings.markdown) return render(text);
    const name = message.role === "tool" ? "pre" : "p";
    return text ? element(name, { className: "plain", dir: "auto" }, [readable(text)]) : document.createDocumentFragment();
  }

  actions(message, place, remark = "") {
    const button = (words, act, className = "quiet small") => {
      const node = element("button", { type: "button", className }, [words]);
      node.addEventListener("click", act);
      return node;
    };
    const row = element("footer", { className: "row" });
    if (EDITABLE.includes(message.role) && !message.tool_calls) row.append(button("Edit", () => this.edit(place)));
    if (message.role === "assistant") {
      row.append(button("Copy", () => navigator.clipboard?.writeText(message.content ?? "")));
      row.append(button("Look inside", () => this.look(this.upTo(place))));
    }
    row.append(button("Try again", () => this.again(place), "quiet small again"));
    if (remark) row.append(element("span", { className: "faint remark" }, [remark]));
    return row;
  }

  // Change a message. A changed question is answered anew; a changed answer stays where it is.
  edit(place) {
    if (this.running) return;
    const message = this.messages[place];
    const asks = message.role === "user";
    const done = (content) => {
      const fields = asks ? this.fields() : {};
      if (this.running || !fields) return;
      this.messages[place] = { ...message, content };
      if (asks) this.messages.length = place + 1;
      this.redraw();
      if (asks) this.answer(fields);
    };
    edit(this.log.children[place], message, asks ? "Send" : "Save", done, () => this.redraw());
  }

  upTo(place) {
    return this.sent().slice(0, this.sent().length - this.messages.length + place + 1);
  }

  // Remove an answer and everything after it, and request another one.
  again(place) {
    if (this.running) return;
    const fields = this.fields();
    if (!fields) return;
    this.messages.length = this.messages[place].role === "assistant" ? place : place + 1;
    this.redraw();
    this.answer(fields);
  }

  // Below each call, a box for its result; all results are sent to the model together.
  results(article, calls) {
    const drawn = article.querySelectorAll(".call");
    const boxes = calls.map((call, number) => {
      const box = element("textarea", { rows: 2, dir: "auto" });
      drawn[number].append(element("label", {}, [`Result of ${readable(call.function.name)}`, box]));
      return box;
    });
    const send = element("button", { type: "button" }, [calls.length > 1 ? "Send the results" : "Send the result"]);
    send.addEventListener("click", () => {
      if (this.running) return;
      const fields = this.fields();
      if (!fields) return;
      const results = calls.map((call, number) => ({ role: "tool", tool_call_id: call.id, content: boxes[number].value }));
      this.messages.push(...results);
      this.redraw();
      this.box.focus();
      this.answer(fields);
    });
    return element("p", {}, [send]);
  }

  nameOf(message) {
    const calls = this.messages.flatMap((one) => one.tool_calls ?? []);
    return readable(calls.findLast((call) => call.id === message.tool_call_id)?.function.name ?? "a tool");
  }

  toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
  }

  grow() {
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight}px`;
  }
}

// Append a delta to a message: text, or parts of its calls.
function take(message, delta) {
  message.content += delta?.content ?? "";
  for (const part of delta?.tool_calls ?? []) {
    message.tool_calls ??= [];
    message.tool_calls[part.index] ??= { id: part.id ?? `call_${part.index}`, type: "function", function: { name: "", arguments: "" } };
    const call = message.tool_calls[part.index].function;
    call.name += part.function?.name ?? "";
    call.arguments += part.function?.arguments ?? "";
  }
}

function drawCall(call) {
  const name = readable(call.function.name);
  return element("section", { className: "call", ariaLabel: `Call of ${name}` }, [
    element("h4", {}, ["Call of ", element("code", {}, [name])]),
    element("pre", { tabIndex: 0, role: "region", ariaLabel: "Arguments" }, [readable(pretty(call.function.arguments))]),
  ]);
}

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

// The box of the settings that an error of the server is about.
function fieldOf(error) {
  if (error.status === 401) return "key";
  const part = String(error.param ?? "").split(/[.[]/)[0] || (/^The JSON schema/.test(error.message) ? "response_format" : "");
  return { response_format: "schema", tools: "tools" }[part] ?? "";
}

function note(finish, usage, milliseconds, most) {
  const parts = [];
  if (finish === "stopped") parts.push("Stopped.");
  const full = usage && usage.completion_tokens < most; // fewer tokens than may be: there was no room for more
  if (finish === "length") parts.push(full ? "Cut off: the model's context is full." : "Cut off at the maximum number of tokens.");
  if (usage) {
    const tokens = usage.completion_tokens;
    const rate = (1000 * (tokens - 1)) / milliseconds;
    const speed = tokens > 1 && milliseconds ? `, ${rate < 10 ? rate.toFixed(1) : Math.round(rate)} per second` : "";
    parts.push(`${tokens} ${tokens === 1 ? "token" : "tokens"}${speed}`);
  }
  return parts.join(" ");
}
