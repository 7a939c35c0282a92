// Getting the model: its file, with the size and progress shown, and the runtime. After the first visit both come from
// this browser's cache.

import { byId } from "./dom.js";
import { Runtime } from "./runtime.js";

const MEGABYTE = 1e6;
const CONTROL_MS = 30_000; // at most, until the service worker keeps what is fetched

class Loading {
  // Settled once this browser keeps what is fetched, if it does.
  controlled = controlled();

  constructor() {
    this.model = this.load();
    this.model.catch((error) => this.failed(error));
  }

  async load() {
    const about = await (await fetched("page/model.json")).json();
    const size = megabytes(about.bytes);
    this.say("Preparing the page to work offline …");
    await this.controlled;
    this.say(`Downloading the model: ${size}.`);
    const blob = await this.download(about, size);
    this.say("Starting the model …");
    byId("loaded").removeAttribute("value");
    const runtime = await Runtime.start(about, blob);
    byId("loaded").hidden = true;
    this.say(`Runs in this browser: ${size}, ${runtime.threads === 1 ? "one thread" : `${runtime.threads} threads`}.`);
    return runtime;
  }

  async download(about, size) {
    const response = await fetched(about.file);
    const parts = [];
    let bytes = 0;
    for (let reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      bytes += value.byteLength;
      byId("loaded").value = bytes / about.bytes;
      byId("progress").textContent = `${megabytes(bytes, false)} of ${size}`;
    }
    byId("progress").textContent = "";
    if (bytes !== about.bytes) throw new Error("The model arrived incomplete. Reload the page.");
    return new Blob(parts);
  }

  speed(rate) {
    byId("speed").textContent = `${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tokens/s`;
  }

  say(text) {
    byId("loading-status").textContent = text;
  }

  failed(error) {
    byId("loaded").hidden = true;
    byId("loading").classList.add("error");
    this.say(`The model could not be loaded: ${error.message}`);
  }
}

async function fetched(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  return response;
}

// Wait until the service worker sees this page's requests, if it comes soon.
async function controlled() {
  if (!("serviceWorker" in navigator)) return;
  const soon = new Promise((resolve) => setTimeout(resolve, CONTROL_MS));
  const changed = new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
  try {
    await navigator.serviceWorker.register("sw.js");
    if (!navigator.serviceWorker.controller) await Promise.race([changed, soon]);
  } catch {
    // A private window, or storage that is full: the page works, but not offline.
  }
}

function megabytes(bytes, unit = true) {
  const value = bytes / MEGABYTE;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)}${unit ? " MB" : ""}`;
}

export const loading = new Loading();
