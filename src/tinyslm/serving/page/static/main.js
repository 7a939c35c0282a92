// Connects the parts of the page.

import * as api from "./api.js";
import { Chat } from "./chat.js";
import { byId, element } from "./dom.js";
import { Look } from "./look.js";
import { Settings } from "./settings.js";
import { Tabs } from "./tabs.js";

const settings = new Settings();
const tabs = new Tabs();
const look = new Look(model);
const chat = new Chat(settings, model, lookAt);

function model() {
  return byId("model").value;
}

function lookAt(messages) {
  tabs.show("look");
  look.conversation(messages);
}

byId("look-conversation").addEventListener("click", () => look.conversation(chat.sent()));
settings.onKey = loadModels;
settings.onOpen = showDefaults;
settings.onLoad = (saved) => {
  chat.open(saved);
  const choice = byId("model");
  if ([...choice.options].some((option) => option.value === saved.model)) choice.value = saved.model;
};
settings.content = () => ({ model: model(), messages: chat.sent() });

async function loadModels() {
  const choice = byId("model");
  const before = choice.value;
  try {
    const models = await api.models();
    const names = models.map((one) => one.id);
    choice.replaceChildren(...names.map((name) => element("option", { value: name }, [name])));
    if (names.includes(before)) choice.value = before;
    settings.showDefaults(models.find((one) => one.id === choice.value)?.sampling);
    chat.say("");
  } catch (error) {
    chat.refused(error);
  }
}

// A model's defaults are known once it is loaded.
async function showDefaults() {
  try {
    settings.showDefaults((await api.models()).find((one) => one.id === model())?.sampling);
  } catch {
    settings.showDefaults();
  }
}

loadModels();
