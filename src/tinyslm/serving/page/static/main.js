// Connects the parts of the page.

import * as api from "./api.js";
import { Card } from "./card.js";
import { Chat } from "./chat.js";
import { Chats } from "./chats.js";
import { byId, element, readable } from "./dom.js";
import { Look } from "./look.js";
import { Settings } from "./settings.js";
import { Tabs } from "./tabs.js";
import { Write } from "./write.js";

const settings = new Settings();
const tabs = new Tabs();
const look = new Look(model);
const chat = new Chat(settings, model, lookAt);
const chats = new Chats(chat, openKept);
const write = new Write(settings, model);
let known = []; // the server's models
let opened = false; // whether the page opened "Write" by itself

new Card(model);

function model() {
  return byId("model").value;
}

function open(saved) {
  chat.open(saved);
  const choice = byId("model");
  if ([...choice.options].some((option) => option.value === saved.model)) choice.value = saved.model;
}

function openKept(saved) {
  tabs.show("chat");
  open(saved);
}

function lookAt(messages) {
  tabs.show("look");
  look.conversation(messages);
}

byId("look-conversation").addEventListener("click", () => look.conversation(chat.sent()));
byId("model").addEventListener("change", chosen);
byId("clear").addEventListener("click", () => {
  chats.clear("");
  write.clear();
});
settings.onKey = loadModels;
settings.onOpen = showDefaults;
settings.onLoad = open;
settings.content = () => ({ model: model(), messages: chat.sent() });

async function loadModels() {
  const choice = byId("model");
  const before = choice.value;
  try {
    known = await api.models();
    const names = known.map((one) => one.id);
    choice.replaceChildren(...names.map((name) => element("option", { value: name }, [name])));
    if (names.includes(before)) choice.value = before;
    chosen();
    chat.say("");
  } catch (error) {
    chat.refused(error);
  }
}

// A model's defaults are known once it is loaded.
async function showDefaults() {
  known = await api.models().catch(() => []);
  settings.showDefaults(known.find((one) => one.id === model())?.sampling);
}

// A model that was never trained on conversations opens "Write".
function chosen() {
  const { sampling, conversations } = known.find((one) => one.id === model()) ?? {};
  const untrained = conversations === false;
  settings.showDefaults(sampling);
  for (const id of ["untrained", "write-why"]) {
    byId(id).textContent = untrained ? `${readable(model())} was never trained on conversations: it continues texts.` : "";
  }
  if (untrained && tabs.chosen === "chat") tabs.show("write");
  else if (opened && !untrained && tabs.chosen === "write") tabs.show("chat");
  opened = untrained;
}

const before = chat.restore();
if (before) byId("model").replaceChildren(element("option", { value: before }, [before]));
loadModels();
