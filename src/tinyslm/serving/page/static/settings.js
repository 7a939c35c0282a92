// The settings, the request fields made from them, and conversations as files.

import { storedKey, storeKey } from "./api.js";
import { byId } from "./dom.js";
import { mistake } from "./json.js";

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"];
const ROLES = ["system", "user", "assistant", "tool"];
const LARGEST_FILE = 16 * 1024 * 1024;

// An invalid setting; `field` is the id of its box, `at` the place in it, if known.
export class SettingError extends Error {
  constructor(field, message, at = null) {
    super(message);
    Object.assign(this, { field, at });
  }
}

export class Settings {
  // Callbacks: the key has changed; the settings are opened; a conversation was opened. `content` returns the
  // conversation to save.
  onKey = () => {};
  onOpen = () => {};
  onLoad = () => {};
  content = () => ({});

  constructor() {
    byId("key").value = storedKey();
    byId("open-settings").addEventListener("click", () => this.open());
    byId("key").addEventListener("change", () => {
      storeKey(byId("key").value.trim());
      this.clear("key");
      this.onKey();
    });
    for (const field of ["schema", "tools"]) {
      byId(field).addEventListener("input", () => this.clear(field));
      byId(field).addEventListener("change", () => this.checks(field));
    }
    for (const slider of sliders()) {
      slider.addEventListener("input", () => {
        byId(slider.dataset.of).value = slider.value;
        byId(slider.dataset.of).dispatchEvent(new Event("input"));
      });
    }
    for (const name of NUMBERS) {
      byId(name).addEventListener("input", () => {
        this.clear(name);
        slide();
      });
      byId(name).addEventListener("change", (event) => event.target.reportValidity());
    }
    byId("save").addEventListener("click", () => this.save());
    byId("load").addEventListener("click", () => byId("load-file").click());
    byId("load-file").addEventListener("change", (event) => this.load(event.target));
    // Enter in a one-line field would activate "Close".
    byId("settings").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target.tagName === "INPUT") event.preventDefault();
    });
  }

  open(field, at = null) {
    const dialog = byId("settings");
    if (!dialog.open) {
      dialog.showModal();
      this.onOpen();
    }
    if (!field) return;
    byId(field).focus();
    if (at !== null) byId(field).setSelectionRange(at, at + 1);
  }

  // Show the model's defaults in empty boxes.
  showDefaults(sampling = {}) {
    for (const name of NUMBERS) byId(name).placeholder = sampling[name] ?? "";
    slide();
  }

  get system() {
    return byId("system").value.trim();
  }

  set system(text) {
    byId("system").value = text;
  }

  get markdown() {
    return byId("markdown").checked;
  }

  // The sampling fields of a request. Throws a `SettingError` for a value of the wrong type.
  sampling() {
    const fields = {};
    for (const name of NUMBERS) {
      const box = byId(name);
      if (!box.validity.valid) throw new SettingError(name, `${box.labels[0].textContent.trim()}: ${box.validationMessage}`);
      if (box.value !== "") fields[name] = Number(box.value);
    }
    return fields;
  }

  // The fields of a request. Throws a `SettingError` also for invalid JSON.
  request() {
    const fields = this.sampling();
    const schema = this.json("schema");
    if (schema !== undefined) {
      fields.response_format = { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
    }
    const tools = this.json("tools");
    if (tools?.length) fields.tools = tools;
    return fields;
  }

  json(field) {
    const text = byId(field).value;
    if (!text.trim()) return undefined;
    const found = mistake(text);
    if (found) throw new SettingError(field, `This is not valid JSON: ${found.message}.`, found.at);
    const value = JSON.parse(text);
    const wrong = field === "tools" ? wrongTools(value) : wrongSchema(value);
    if (wrong) throw new SettingError(field, wrong);
    return value;
  }

  checks(field) {
    try {
      this.json(field);
    } catch (error) {
      this.show(field, error.message);
    }
  }

  // Show at a box what is wrong with it.
  show(field, message) {
    const line = byId(`${field}-error`);
    if (line) line.textContent = message;
    byId(field).ariaInvalid = "true";
  }

  clear(field) {
    const line = byId(`${field}-error`);
    if (line) line.textContent = "";
    byId(field).ariaInvalid = "false";
  }

  save() {
    const numbers = NUMBERS.filter((name) => byId(name).value !== "").map((name) => [name, Number(byId(name).value)]);
    const whole = {
      ...this.content(),
      settings: Object.fromEntries(numbers),
      schema: byId("schema").value || undefined,
      tools: byId("tools").value || undefined,
    };
    const url = URL.createObjectURL(new Blob([`${JSON.stringify(whole, null, 2)}\n`], { type: "application/json" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = "conversation.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  async load(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    let saved = null;
    try {
      if (file.size <= LARGEST_FILE) saved = JSON.parse(await file.text());
    } catch {
      saved = null;
    }
    if (!isConversation(saved)) {
      this.onLoad({ problem: `${file.name} is no saved conversation: a JSON file with a list of "messages" was expected.` });
      return;
    }
    const [first, ...rest] = saved.messages;
    const begins = first?.role === "system";
    for (const name of NUMBERS) {
      const value = saved.settings?.[name];
      byId(name).value = typeof value === "number" ? String(value) : "";
    }
    slide();
    for (const field of ["schema", "tools"]) {
      byId(field).value = typeof saved[field] === "string" ? saved[field] : "";
      this.clear(field);
      this.checks(field);
    }
    byId("settings").close();
    this.onLoad({
      model: saved.model,
      system: begins ? first.content : "",
      messages: begins ? rest : saved.messages,
    });
  }
}

function sliders() {
  return document.querySelectorAll("input[type=range][data-of]");
}

// Move the sliders to the values of their boxes, or to the model's defaults.
function slide() {
  for (const slider of sliders()) {
    const { value, placeholder } = byId(slider.dataset.of);
    slider.value = value || placeholder || "1";
    const output = slider.parentElement.querySelector("output");
    if (output) output.value = value || placeholder || "1";
  }
}

function wrongSchema(value) {
  const right = typeof value === "object" && value !== null && !Array.isArray(value);
  return right ? "" : 'A JSON schema is an object, such as {"type": "object"}.';
}

function wrongTools(value) {
  if (!Array.isArray(value)) return "Tools must be a list: [ ... ].";
  const at = value.findIndex((tool) => tool?.type !== "function" || typeof tool.function?.name !== "string");
  return at < 0 ? "" : `Tool ${at + 1} does not have the form {"type": "function", "function": {"name": ..., "parameters": ...}}.`;
}

export function isConversation(saved) {
  return Array.isArray(saved?.messages) && saved.messages.length <= 10_000 && saved.messages.every(isMessage);
}

function isMessage(message) {
  if (!ROLES.includes(message?.role)) return false;
  const calls = message.tool_calls ?? [];
  if (message.role !== "assistant" || !Array.isArray(calls) || !calls.length) return typeof message.content === "string";
  return calls.every(
    (call) => typeof call?.id === "string" && typeof call.function?.name === "string" && typeof call.function.arguments === "string",
  );
}
