// The conversations that this browser keeps: each in an entry of its own, so that tabs do not overwrite each other's.

import { byId, element, readable } from "./dom.js";
import { isConversation } from "./settings.js";
import { keep, kept, names } from "./storage.js";

const ENTRY = "conversation.";
const MOST = 100; // conversations
const LARGEST = 3_000_000; // characters of all together; browsers store about five million
const LONGEST_TITLE = 80;

export function newId() {
  return `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
}

// One of them: { id, when, model, system, messages }; null if there is none of this id.
export function find(id) {
  const saved = kept(ENTRY + id);
  if (!isConversation(saved)) return null;
  const text = (value) => (typeof value === "string" ? value : "");
  const messages = saved.messages.filter(({ content, tool_calls }) => content || tool_calls);
  return { id, when: Number(saved.when) || 0, model: text(saved.model), system: text(saved.system), messages };
}

// All, the one that was changed last first.
export function all() {
  const found = names(ENTRY).map((name) => find(name.slice(ENTRY.length)));
  return found.filter(Boolean).sort((one, other) => other.when - one.when);
}

// Keep a conversation, and remove the oldest others beyond the limits. One without messages, which has only a system
// message, is removed with the next one.
export function store({ id, ...conversation }) {
  const saved = { ...conversation, when: Date.now() };
  let room = LARGEST - JSON.stringify(saved).length;
  if (room < 0) return;
  const others = all().filter((one) => one.id !== id);
  others.forEach((one, place) => {
    room -= JSON.stringify(one).length;
    if (room < 0 || place + 1 >= MOST || !one.messages.length) remove(one.id);
  });
  while (!keep(ENTRY + id, saved) && others.length) remove(others.pop().id);
}

export function remove(id) {
  keep(ENTRY + id, null);
}

// The sheet with the list. `chat` has the conversation that is open; `open` opens one of them.
export class Chats {
  constructor(chat, open) {
    Object.assign(this, { chat, open });
    byId("open-chats").addEventListener("click", () => {
      chat.keep();
      this.draw();
      byId("chats").showModal();
    });
    twice(byId("delete-chats"), "Delete all, for good?", () => this.clear());
  }

  draw() {
    const found = all().filter(({ messages }) => messages.length);
    byId("chat-list").replaceChildren(...found.map((one) => this.row(one)));
    byId("no-chats").hidden = found.length > 0;
    byId("delete-chats").hidden = !found.length;
  }

  row(conversation) {
    const title = titleOf(conversation);
    const count = conversation.messages.length;
    const when = new Date(conversation.when).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    const about = `${count} ${count > 1 ? "messages" : "message"}, ${when}`;
    const choose = element("button", { type: "button", className: "quiet title" }, [
      element("span", { dir: "auto" }, [title]),
      element("small", { className: "faint" }, [about]),
    ]);
    if (conversation.id === this.chat.id) choose.ariaCurrent = "true";
    choose.addEventListener("click", () => {
      byId("chats").close();
      this.open(conversation);
    });
    const drop = element("button", { type: "button", className: "quiet small", ariaLabel: `Delete ${title}` }, ["Delete"]);
    twice(drop, "Really?", () => this.delete(conversation.id));
    return element("li", {}, [choose, drop]);
  }

  delete(id) {
    const place = [...byId("chat-list").children].findIndex((row) => row.contains(document.activeElement));
    if (id === this.chat.id) this.chat.open({ messages: [] });
    remove(id);
    this.draw();
    const rows = byId("chat-list").children;
    (rows[Math.min(place, rows.length - 1)]?.querySelector("button") ?? byId("close-chats")).focus();
  }

  // system: the system message from now on, if not that of before.
  clear(system) {
    this.chat.open({ system, messages: [] });
    all().forEach(({ id }) => remove(id));
    this.draw();
    if (byId("chats").open) byId("close-chats").focus();
  }
}

// The beginning of the first message of the user.
function titleOf({ messages }) {
  const first = messages.find(({ role, content }) => role === "user" && content.trim());
  const [line] = first?.content.trim().split("\n") ?? ["Without a question"];
  return readable(line.length > LONGEST_TITLE ? `${line.slice(0, LONGEST_TITLE)} …` : line);
}

// A button that acts when it is pressed twice; in between, it asks.
function twice(button, question, act) {
  const words = button.textContent;
  const label = button.ariaLabel;
  const ask = (asks) => {
    button.textContent = asks ? question : words;
    if (label) button.ariaLabel = asks ? `${label}: ${question}` : label;
    button.classList.toggle("asks", asks);
  };
  button.addEventListener("click", () => {
    if (!button.classList.contains("asks")) return ask(true);
    ask(false);
    act();
  });
  button.addEventListener("blur", () => ask(false));
}
